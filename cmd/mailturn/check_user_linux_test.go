package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

// TestUnitUser checks that the user assumed without an installed unit is the one in dist/.
func TestUnitUser(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "dist", unitName))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\nUser="+unitUser+"\n") {
		t.Errorf("dist/%s does not run as %s", unitName, unitUser)
	}
}

// TestCheckConfigForUser has root check files of which the user of the service can read some.
func TestCheckConfigForUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("what another user may read is seen by root alone")
	}
	dir := t.TempDir() // below a directory of root's that only root may enter
	shared, err := os.MkdirTemp("/var/tmp", "mailturn-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(shared) })
	if err := os.Chmod(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	pair, _, err := certs.SelfSigned(filepath.Join(shared, "certificate"), []string{"localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	write := func(path, text string, mode os.FileMode) string {
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := write(filepath.Join(shared, "secret"), "correct horse battery staple", 0o600)
	users := write(filepath.Join(shared, "users"), "alice:a long password\n", 0o600)
	state := filepath.Join(shared, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`hostname = "localhost"
state_dir = %q
tls {
  cert = %q
  key = %q
}
endpoint "turn" "turn" {
  listen = "tls://127.0.0.1:5349"
  relay_ip = "127.0.0.1"
  secret = file(%q)
  users_file = %q
}
`, state, pair.Cert, pair.Key, secret, users)
	file := write(filepath.Join(shared, "maddy.conf"), text, 0o644)
	check := func(args ...string) (status int, stdout, stderr string) {
		var out, err bytes.Buffer
		status = execute(append([]string{"check-config"}, args...), strings.NewReader(""), &out, &err)
		return status, out.String(), err.String()
	}

	status, stdout, stderr := check("--user", "nobody", file)
	if status != 0 || !strings.Contains(stdout, "with warnings (4)") {
		t.Errorf("status %d, %s", status, stdout)
	}
	for _, want := range []string{
		":4:10: warning: Certificate cannot be used: For the user nobody: " + pair.Cert + ": permission denied",
		":10:12: warning: File cannot be read: For the user nobody: " + secret + ": permission denied",
		":11:16: warning: Users file cannot be read: For the user nobody: open " + users + ": permission denied",
		": warning: State directory cannot be used: For the user nobody: " + state + ": permission denied",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("nothing says %q in\n%s", want, stderr)
		}
	}
	if status, _, _ := check("--strict", "--user", "nobody", file); status != exitWarnings {
		t.Errorf("--strict: status %d, want %d", status, exitWarnings)
	}

	for _, path := range []string{secret, users, filepath.Dir(pair.Key), pair.Key, state} {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if status, stdout, stderr := check("--strict", "--user", "nobody", file); status != 0 || stderr != "" {
		t.Errorf("readable files: status %d\n%s%s", status, stdout, stderr)
	}
	if _, _, stderr := check("--user", "nobody", write(filepath.Join(dir, "maddy.conf"), text, 0o600)); !strings.Contains(stderr, "Configuration cannot be read: For the user nobody: permission denied") {
		t.Errorf("unreadable file: %s", stderr)
	}
	if _, err := os.ReadFile(secret); err != nil {
		t.Errorf("the rights of the process have changed: %v", err)
	}
	if status, _, stderr := check("--user", "root", file); status != 0 || stderr != "" {
		t.Errorf("root: status %d\n%s", status, stderr)
	}
}
