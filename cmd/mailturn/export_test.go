package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

const exported = `
hostname = "turn.example.org"
endpoint "turn" "turn" {
  listen   = ["udp://0.0.0.0:3478", "tls://0.0.0.0:5349"]
  relay_ip = "203.0.113.1"
  users    = { "alice" = "wonderland" }
}
endpoint "dict" "dovecot" {
  path = "/run/mailturn/dict.socket"
  next = "/run/chatmail-metadata/metadata.socket"
}
`

// TestExportState checks that the commands that print something create only the secret, if they print or use it, and never replace
// the certificate of the server.
func TestExportState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "maddy.conf")
	if err := os.WriteFile(file, []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want []string // files that it creates
	}{
		{[]string{"export", "synapse"}, []string{"turn.secret"}},
		{[]string{"export", "livekit"}, []string{"turn.secret"}},
		{[]string{"export", "prosody"}, []string{"turn.secret"}},
		{[]string{"export", "ejabberd"}, []string{"turn.secret"}},
		{[]string{"export", "nextcloud"}, []string{"turn.secret"}},
		{[]string{"export", "coturn"}, []string{"turn.secret"}},
		{[]string{"credentials"}, []string{"turn.secret"}},
		{[]string{"export", "env"}, nil},
		{[]string{"export", "dovecot", "--dovecot-version", "2.4"}, nil},
		{[]string{"export", "chatmail"}, nil},
		{[]string{"export", "nftables"}, nil},
		{[]string{"export", "ufw"}, nil},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			dir := t.TempDir()
			if _, _, err := certs.SelfSigned(dir, []string{"former.example.org"}, time.Now()); err != nil {
				t.Fatal(err)
			}
			before := contents(t, dir)
			var stdout, stderr bytes.Buffer
			if status := execute(append(slices.Clone(tt.args), "--config", file, "--state-dir", dir), strings.NewReader(""), &stdout, &stderr); status != 0 {
				t.Fatalf("exit status %d: %s", status, &stderr)
			}
			after := contents(t, dir)
			for _, name := range tt.want {
				if after[name] == "" {
					t.Errorf("%s does not exist", name)
				}
				delete(after, name)
			}
			if !maps.Equal(after, before) {
				t.Errorf("the files are %q, want only those of before and %q", slices.Sorted(maps.Keys(after)), tt.want)
			}
		})
	}
}

// TestExportCoturnWithoutCertificate checks that coturn is given no certificate that does not exist.
func TestExportCoturnWithoutCertificate(t *testing.T) {
	file, dir := filepath.Join(t.TempDir(), "maddy.conf"), t.TempDir()
	if err := os.WriteFile(file, []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	status := execute([]string{"export", "coturn", "--config", file, "--state-dir", dir}, strings.NewReader(""), &stdout, &stderr)
	if status != exitFailure || stdout.Len() > 0 || !strings.Contains(stderr.String(), filepath.Join(dir, "selfsigned.crt")) {
		t.Errorf("exit status %d, want %d; stdout: %s; stderr: %s", status, exitFailure, &stdout, &stderr)
	}
}

// TestExportOpensTheAuthoritysPort checks that a firewall lets an authority reach http-01.
func TestExportOpensTheAuthoritysPort(t *testing.T) {
	const rule = "ufw allow 80/tcp comment mailturn\n"
	for _, tt := range []struct {
		name, acme, want, not string
	}{
		{"default", "", rule, ""},
		{"another port", "http_listen = \"0.0.0.0:8080\"", "ufw allow 8080/tcp comment mailturn\n", rule},
		{"a proxy in front", "http_listen = \"127.0.0.1:8080\"", "", "8080"},
		{"another challenge", "challenge = \"tls-alpn-01\"", "", rule},
	} {
		file := filepath.Join(t.TempDir(), "maddy.conf")
		if err := os.WriteFile(file, []byte(exported+"tls {\n  acme {\nemail = \"postmaster@turn.example.org\"\nagree_to_terms = true\n"+tt.acme+"\n  }\n}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		if status := execute([]string{"export", "ufw", "--config", file, "--state-dir", t.TempDir()}, strings.NewReader(""), &stdout, &stderr); status != 0 {
			t.Errorf("%s: exit status %d: %s", tt.name, status, &stderr)
		}
		if got := stdout.String(); !strings.Contains(got, tt.want) || tt.not != "" && strings.Contains(got, tt.not) {
			t.Errorf("%s: got\n%s\nwant %q, and not %q", tt.name, got, tt.want, tt.not)
		}
	}
}

// contents returns the contents of the files in dir by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}
