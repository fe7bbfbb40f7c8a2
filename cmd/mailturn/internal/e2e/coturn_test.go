package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

// coturnReady is what coturn says last when it starts. It opens the listener of UDP after those of TCP, and its database after
// that.
const coturnReady = "SQLite DB connection success"

// startCoturn runs coturn's server, by command, until the test ends, and returns once it serves. What it writes elsewhere than to
// its log is kept in the test's directory.
func startCoturn(t *testing.T, command func(name string, args ...string) *exec.Cmd, args ...string) *daemon.Daemon {
	t.Helper()
	dir := t.TempDir()
	args = append(args, "--verbose", "--simple-log", "--log-file=stdout", "--pidfile="+filepath.Join(dir, "pid"), "--userdb="+filepath.Join(dir, "db"))
	d, err := daemon.Start(t.Context(), command(peer(t, "turnserver", "coturn"), args...), coturnReady)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("coturn's log:\n%s", d.Log())
		}
	})
	return d
}
