package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullStateDirectory fills the disk of the state directory: before the start, and while calls come and go with a record of calls and
// bans. Calls go on, and what cannot be stored is logged or refused.
func TestFullStateDirectory(t *testing.T) {
	t.Parallel()
	needRoot(t, "a file system of its own")
	stateDir := t.TempDir()
	if err := unix.Mount("tmpfs", stateDir, "tmpfs", 0, "size=512k"); err != nil {
		lacks(t, "mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(stateDir, unix.MNT_DETACH) })
	filler := filepath.Join(stateDir, "filler")
	fill := func() {
		t.Helper()
		f, err := os.OpenFile(filler, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
	}
	p := freePorts(t)
	config := filepath.Join(t.TempDir(), "maddy.conf")
	text := fmt.Sprintf(`
control {
  path   = "control.socket"
  record = "1h"
}
endpoint "turn" "turn" {
  listen   = "udp://127.0.0.1:%d"
  realm    = "example.org"
  secret   = %q
  relay_ip = "127.0.0.1"
}
`, p.turn, secret)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	calls := func() {
		t.Helper()
		for range 3 {
			c := turnClient(t, p, minted("127.0.0.1"))
			if _, err := c.Allocate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Refresh(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill()
	s := start(t, stateDir, "--config", config)
	s.waitFor(t, s.stderr, "relayed ports are not recorded")
	calls()
	out, err := exec.Command(binary, "ctl", "--config", config, "ban", "mallory@example.org").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no space left on device") {
		t.Errorf("a ban that cannot be stored: %v, %s", err, out)
	}
	s.stop(t)

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s = start(t, stateDir, "--config", config)
	fill()
	calls()
	if strings.Contains(s.stderr.String(), "relayed ports are not recorded") {
		t.Error("the file of relayed ports needs more space after the start")
	}
}
