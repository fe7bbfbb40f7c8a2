package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A terminal is one at which a program runs, and at which a test types.
type terminal struct {
	cmd     *exec.Cmd
	typed   *os.File // the other side of it
	reading sync.WaitGroup

	mu      sync.Mutex
	screen  strings.Builder // guarded by mu; all that was written
	changed chan struct{}   // guarded by mu; closed with the next change
	read    int             // what expect has seen
}

// Keys.
const (
	ctrlC = "\x03"
	ctrlD = "\x04"
)

// atTerminal starts a script on a new terminal.
func (m machine) atTerminal(t *testing.T, script string) *terminal {
	t.Helper()
	outer, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var number int
	raw, err := outer.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ioctlErr error
	err = raw.Control(func(fd uintptr) {
		if ioctlErr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); ioctlErr == nil {
			number, ioctlErr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil || ioctlErr != nil {
		t.Fatal(err, ioctlErr)
	}
	inner, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	x := &terminal{cmd: m.command(script), typed: outer, changed: make(chan struct{})}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = inner, inner, inner
	// The session begins inside, so that Ctrl-C is for the script and not for nsenter.
	x.cmd.Args = slices.Insert(x.cmd.Args, slices.Index(x.cmd.Args, "bash"), "setsid", "--ctty", "--wait")
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x.cmd.Process.Kill()
		outer.Close()
		x.reading.Wait()
	})
	x.reading.Go(x.keep)
	return x
}

// keep keeps what is written, until the last process has left the terminal.
func (x *terminal) keep() {
	buf := make([]byte, 4096)
	for {
		n, err := x.typed.Read(buf)
		x.mu.Lock()
		x.screen.Write(buf[:n])
		close(x.changed)
		x.changed = make(chan struct{})
		x.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// expect waits for a text after those that were waited for before, and types.
func (x *terminal) expect(t *testing.T, text, keys string) {
	t.Helper()
	timeout := time.After(startLimit)
	for {
		x.mu.Lock()
		screen, changed := x.screen.String(), x.changed
		x.mu.Unlock()
		if i := strings.Index(screen[x.read:], text); i >= 0 {
			x.read += i + len(text)
			break
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("the terminal does not show %q within %v:\n%s", text, startLimit, screen)
		}
	}
	if _, err := x.typed.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// wait waits for the end of the script, and returns all that the terminal has shown, and how the script has ended.
func (x *terminal) wait(t *testing.T) (screen string, err error) {
	t.Helper()
	late := time.AfterFunc(startLimit, func() { x.cmd.Process.Kill() })
	err = x.cmd.Wait()
	if !late.Stop() {
		t.Errorf("the script still ran after %v", startLimit)
	}
	x.reading.Wait()
	return strings.ReplaceAll(x.screen.String(), "\r", ""), err
}
