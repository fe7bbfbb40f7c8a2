//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFilesWithoutEnd puts a pipe without a writer, and an endless device, wherever a configuration names a file. Reading either
// would not return.
func TestFilesWithoutEnd(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	configs := map[string]string{
		"tls cert":             `tls { cert = "%[1]s", key = "%[1]s" }`,
		"endpoint cert":        `endpoint "turn" "t" { tls { cert = "%[1]s", key = "%[1]s" } }`,
		"users_file of turn":   `endpoint "turn" "t" { users_file = "%[1]s" }`,
		"users_file of realm":  `endpoint "turn" "t" { user_realm "r" { users_file = "%[1]s" } }`,
		"users_file of imap":   `endpoint "imap" "i" { embedded { users_file = "%[1]s" } }`,
		"tls_ca":               `endpoint "imap" "i" { upstream { address = "tls://127.0.0.1:993", tls_ca = "%[1]s" } }`,
		"secret":               `endpoint "turn" "t" { secret = file("%[1]s") }`,
		"import":               "hostname example.org\nimport %[1]s\n",
		"configuration itself": "",
	}
	for name, text := range configs {
		for _, path := range []string{pipe, "/dev/zero"} {
			t.Run(name+" "+filepath.Base(path), func(t *testing.T) {
				file := path
				if text != "" {
					file = filepath.Join(t.TempDir(), "maddy.conf")
					lines := strings.NewReplacer("{ ", "{\n", " }", "\n}", ", ", "\n").Replace(text)
					if err := os.WriteFile(file, fmt.Appendf(nil, lines, path), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				var stderr bytes.Buffer
				if status := execute([]string{"check-config", file}, strings.NewReader(""), io.Discard, &stderr); status != exitFailure {
					t.Errorf("exit status %d, want %d", status, exitFailure)
				}
				if !strings.Contains(stderr.String(), "not a regular file") {
					t.Errorf("standard error does not name the cause:\n%s", &stderr)
				}
			})
		}
	}
}
