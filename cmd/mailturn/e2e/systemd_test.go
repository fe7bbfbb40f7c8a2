package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSystemdUnit has systemd read the unit, with our binary in the place of the installed one, and rate what a process in it
// could do to the machine: from 0, nothing, to 10.
func TestSystemdUnit(t *testing.T) {
	analyze := peer(t, "systemd-analyze", "systemd")
	text, err := os.ReadFile("../../../dist/mailturn.service")
	if err != nil {
		t.Fatal(err)
	}
	const installed = "/usr/local/bin/mailturn"
	if !bytes.Contains(text, []byte("ExecStart="+installed+" run ")) {
		t.Fatalf("the unit does not start %s", installed)
	}
	unit := filepath.Join(t.TempDir(), "mailturn.service")
	if err := os.WriteFile(unit, bytes.ReplaceAll(text, []byte(installed), []byte(binary)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "mailturn.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err = exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold=17", unit).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
