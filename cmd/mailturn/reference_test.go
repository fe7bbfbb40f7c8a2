package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestReferenceOfBlock checks that the reference can be limited to a block.
func TestReferenceOfBlock(t *testing.T) {
	reference := func(args ...string) (status int, stdout, stderr string) {
		var out, errors bytes.Buffer
		status = execute(append([]string{"reference"}, args...), strings.NewReader(""), &out, &errors)
		return status, out.String(), errors.String()
	}
	_, whole, _ := reference()
	for _, tt := range []struct{ block, first string }{
		{"turn", "endpoint \"turn\" NAME {\n"},
		{"http", "endpoint \"http\" NAME {\n"},
		{"log", "log {\n"},
		{"acme", "acme {\n"}, // which several blocks have, and is printed once
		{"peers", "peers {\n"},
		{"user_realm", "user_realm \"REALM\" {\n"},
	} {
		status, text, _ := reference(tt.block)
		if status != 0 || !strings.HasPrefix(text, tt.first) || strings.Count("\n"+text, "\n"+tt.first) != 1 || len(text) >= len(whole) {
			t.Errorf("%s: exit status %d; got\n%s", tt.block, status, text)
		}
	}
	if status, _, text := reference("turns"); status != exitUsage || !strings.Contains(text, `unknown block "turns": want one of tls, acme, `) {
		t.Errorf("of an unknown block: exit status %d: %s", status, text)
	}
}
