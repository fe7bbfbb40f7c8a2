package udp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace opens sockets in a new network namespace, in which only the loopback device exists, with the given MTU. It skips the
// test without root or ip(8).
func inNamespace(t *testing.T, mtu int, open func() error) {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil && os.Getenv("MAILTURN_E2E") == "" {
		t.Skip("needs ip(8) of iproute2")
	}
	if err := namespace(mtu, open); errors.Is(err, unix.EPERM) {
		t.Skip("needs root, for a network namespace")
	} else if err != nil {
		t.Fatal(err)
	}
}

func namespace(mtu int, open func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the namespace with its sockets
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		err := errors.Join(ip("link", "set", "lo", "mtu", strconv.Itoa(mtu)), ip("link", "set", "lo", "up"))
		if err == nil {
			err = open()
		}
		result <- err
	}()
	return <-result
}

// ip calls ip(8) in the namespace of the thread.
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w\n%s", args, err, out)
	}
	return nil
}
