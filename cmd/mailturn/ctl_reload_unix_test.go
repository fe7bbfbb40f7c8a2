//go:build unix

package main

import (
	"bytes"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReloadWithoutControlSocket checks that a service manager can reload a mailturn without a control socket.
func TestReloadWithoutControlSocket(t *testing.T) {
	file := filepath.Join(t.TempDir(), "maddy.conf")
	if err := os.WriteFile(file, []byte(controlled+"control {\n  enable = false\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	reload := func(args ...string) (status int, printed string) {
		var output bytes.Buffer
		status = execute(append([]string{"ctl", "reload", "--config", file}, args...), strings.NewReader(""), &output, &output)
		return status, output.String()
	}
	if status, printed := reload(); status != exitFailure || !strings.Contains(printed, "there is no control socket") {
		t.Errorf("without --pid: exit status %d; it prints\n%s", status, printed)
	}
	if status, printed := reload("--pid", strconv.Itoa(os.Getpid())); status != 0 || !strings.Contains(printed, "Sent SIGHUP") {
		t.Errorf("with --pid: exit status %d; it prints\n%s", status, printed)
	}
	select {
	case <-hangups:
	case <-time.After(10 * time.Second):
		t.Error("no SIGHUP has come")
	}
}
