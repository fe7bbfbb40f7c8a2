package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func addFixtures(f *testing.F) {
	f.Helper()
	names, err := filepath.Glob("testdata/*/*.conf")
	if err != nil || len(names) == 0 {
		f.Fatalf("no fixtures: %v", err)
	}
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
}

// FuzzParse checks that neither reading arbitrary input as a configuration nor printing the diagnostics panics.
func FuzzParse(f *testing.F) {
	addFixtures(f)
	f.Add([]byte("imap {\n iroh_relay_url http://a\n entries {\n  /shared/comment b\n }\n proxy_protocol c {\n  trust d e\n }\n auth f\n upstream {\n }\n}\n" +
		"turn {\n relay_port_min 1\n relay_port_max 0\n debug\n}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		file, diags := Parse("testdata/valid/fuzz.conf", src)
		_, more := decodeEndpoints(file)
		diags = append(diags, more...)
		out := written(t, file, diags)
		if strings.Contains(out, "<nil>") {
			t.Errorf("a place is missing:\n%s", out)
		}
		for line := range strings.Lines(out) {
			if !strings.HasSuffix(line, "\n") || strings.ContainsAny(line[:len(line)-1], "\r\x1b") {
				t.Errorf("not printable: %q", line)
			}
		}
	})
}

// FuzzSecret puts a line with a secret between arbitrary lines, and looks for it in the diagnostics.
func FuzzSecret(f *testing.F) {
	f.Add("endpoint \"turn\" {", "}", byte(0))
	f.Add("endpoint.turn turn {", "}", byte(1))
	f.Add("endpoint \"turn\" {", "secret = 1\n}", byte(2))
	f.Add("realm = [\"", "\"", byte(3))
	f.Add("locals {", "}", byte(0))
	f.Fuzz(func(t *testing.T, before, after string, form byte) {
		const secret = "hunter2zz"
		if strings.Contains(before+after, secret) {
			return
		}
		forms := []string{
			`secret = "` + secret + `"`, `secret ` + secret, `secret = ` + secret, `turn_secret "` + secret,
			`secret = "` + secret + `" "`, `users { alice ` + secret + ` }`, `secret = file("x", "` + secret + `")`,
		}
		src := before + "\n" + forms[int(form)%len(forms)] + "\n" + after
		file, diags := Parse("testdata/valid/fuzz.conf", []byte(src))
		_, more := decodeEndpoints(file)
		if out := written(t, file, append(diags, more...)); strings.Contains(out, secret) {
			t.Errorf("secret is shown:\n%s\nof:\n%s", out, src)
		}
	})
}
