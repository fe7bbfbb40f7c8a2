package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailturn/mailturn/framework/config"
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

// TestReferencePage checks that docs/reference.md is what the command prints, and that it has every attribute.
func TestReferencePage(t *testing.T) {
	var out, errors bytes.Buffer
	if status := execute([]string{"reference", "--markdown"}, strings.NewReader(""), &out, &errors); status != 0 {
		t.Fatalf("exit status %d: %s", status, &errors)
	}
	page, err := os.ReadFile("../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(out.String(), "\n"), strings.Split(string(page), "\n")); diff != "" {
		t.Errorf("docs/reference.md is out of date (-program +page); run: go run ./cmd/mailturn reference --markdown >docs/reference.md\n%s", diff)
	}
	for _, s := range sections() {
		for _, name := range attributeNames(s.Reference()) {
			if !strings.Contains(string(page), "| `"+name+"` | ") {
				t.Errorf("the page lacks %s", name)
			}
		}
	}
}

// attributeNames returns the names of the attributes at any depth.
func attributeNames(b config.BlockReference) (names []string) {
	for _, a := range b.Attributes {
		names = append(names, a.Name)
	}
	for _, inner := range b.Blocks {
		names = append(names, attributeNames(inner)...)
	}
	return names
}
