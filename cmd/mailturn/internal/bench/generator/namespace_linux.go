package generator

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// InNamespace calls f in the network namespace that a file leads to, or in that of this process if it is empty. Sockets that f opens
// stay there.
func InNamespace(file string, f func() error) error {
	if file == "" {
		return f()
	}
	other, err := os.Open(file)
	if err != nil {
		return err
	}
	defer other.Close()
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer own.Close()
	err = unix.Setns(int(other.Fd()), unix.CLONE_NEWNET)
	if err == nil {
		err = f()
		// The thread must not end: the namespaces do with the thread that has made them.
		if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
			return errors.Join(err, back) // without unlocking it
		}
	}
	runtime.UnlockOSThread()
	return err
}
