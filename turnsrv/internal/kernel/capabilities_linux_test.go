//go:build amd64 || arm64

package kernel

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTwoCapabilities runs the other tests as an ordinary user with exactly CAP_BPF and CAP_NET_ADMIN. The verifier is stricter
// with such a user than with root.
func TestTwoCapabilities(t *testing.T) {
	const nobody = 65534
	loadForTest(t, 1)
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	// By its descriptor, because the user may not search the directory of the program.
	c := exec.CommandContext(t.Context(), "/proc/self/fd/3", "-test.run", "^Test(Relay|Padding|PassedUp|End|Limit)$", "-test.v")
	c.Dir = "/"
	c.ExtraFiles = []*os.File{program}
	c.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: []uintptr{unix.CAP_BPF, unix.CAP_NET_ADMIN},
	}
	out, err := c.CombinedOutput()
	if errors.Is(err, os.ErrPermission) {
		t.Skip("requires root")
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, skipped := range []string{"--- SKIP", "no tests to run"} {
		if bytes.Contains(out, []byte(skipped)) {
			t.Errorf("not run:\n%s", out)
		}
	}
}
