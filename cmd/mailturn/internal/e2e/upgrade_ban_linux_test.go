package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestBanDuringUpgrade makes bans while the new program hangs, as it checks the configuration and as it starts: they wait for neither, and the
// new process knows them.
func TestBanDuringUpgrade(t *testing.T) {
	t.Parallel()
	p, stateDir, dir := freePorts(t), t.TempDir(), t.TempDir()
	i := newInstallation(t, binary, configure(t, p, allowLoopback, ""))
	i.start(t, stateDir)
	at := func(name string) string { return filepath.Join(dir, name) }
	script := at("program")
	// It tells that it has begun a phase, takeover or run, and waits until the test lets it go on.
	text := fmt.Sprintf(`#!/bin/sh
case $1 in
takeover | run)
  : >%[1]s/$1.begun
  until [ -e %[1]s/$1.go ]; do sleep 0.05; done ;;
esac
exec %[2]s "$@"
`, dir, binary)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	i.replace(t, script)
	upgraded := make(chan error, 1)
	go func() {
		out, err := exec.Command(binary, "upgrade", "--socket", i.socket).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		upgraded <- err
	}()
	ctl := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), binary, append([]string{"ctl", "--socket", i.socket}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("ctl %q: %v\n%s", args, err, out)
		}
	}
	ctl("ban", "198.51.100.1")
	for n, phase := range []string{"takeover", "run"} {
		waitForFile(t, at(phase+".begun"), upgraded)
		if phase == "run" {
			ctl("unban", "198.51.100.1")
		}
		ctl("ban", fmt.Sprintf("203.0.113.%d", n+1))
		select {
		case err := <-upgraded:
			t.Fatalf("the upgrade has ended before the bans were made: %v", err)
		default:
		}
		if err := os.WriteFile(at(phase+".go"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-upgraded; err != nil {
		t.Fatal(err)
	}
	i.replace(t, binary)
	var report struct{ Bans []struct{ Network string } }
	if err := i.ctl(&report, "ctl", "bans"); err != nil {
		t.Fatal(err)
	}
	if len(report.Bans) != 2 || report.Bans[0].Network != "203.0.113.1/32" || report.Bans[1].Network != "203.0.113.2/32" {
		t.Errorf("the new process has the bans %+v", report.Bans)
	}
}

// waitForFile waits for a file that the new program makes, unless the upgrade ends.
func waitForFile(t *testing.T, path string, ended <-chan error) {
	t.Helper()
	for deadline := time.Now().Add(startLimit); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("the upgrade has ended: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is no %s", path)
		}
	}
}
