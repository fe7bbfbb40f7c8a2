package turn

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// cpus returns the first and the last of the processors that this process may use.
func cpus() (first, last int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, 0, err
	}
	first = -1
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			if last = i; first < 0 {
				first = i
			}
		}
	}
	return first, last, nil
}

// stayOn keeps the calling goroutine on one processor until leave is called.
func stayOn(cpu int) (leave func(), err error) {
	runtime.LockOSThread()
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, err
	}
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return nil, err
	}
	return func() {
		_ = unix.SchedSetaffinity(0, &before)
		runtime.UnlockOSThread()
	}, nil
}

// reuseAddr lets a socket share its port with that of a generator.
func reuseAddr(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }

// attackFrom keeps the calling goroutine on one processor, where other threads of this process come first, until leave is called. The
// thread must not end: that would end the processes that it has started and that end with it.
func attackFrom(cpu int) (leave func(), err error) {
	move, err := stayOn(cpu)
	if err != nil {
		return nil, err
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 10); err != nil {
		move()
		return nil, err
	}
	return func() {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 0)
		move()
	}, nil
}
