package patient

import (
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls in this file never wait, so they bypass Go's scheduler: one that it knows of wakes the runtime's monitoring
// thread when the process was idle, and that thread used a quarter of the CPU time for a NOOP.

const canReadAtOnce = true

// readAtOnce reads from a non-blocking descriptor. It returns ErrNothingYet if it would block.
func readAtOnce(fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, ErrNothingYet
		default:
			return 0, os.NewSyscallError("read", errno)
		}
	}
}

// readable reports whether readAtOnce would return something other than ErrNothingYet.
func readable(fd uintptr) bool {
	poll, now := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}, unix.Timespec{}
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n > 0 || errno != 0
}

// A writer writes to a connection, and waits only when its system's buffer is full.
type writer struct {
	raw syscall.RawConn

	mu   sync.Mutex // held during write
	rest []byte
	err  error
}

func (w *writer) write(_ net.Conn, p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest, w.err = p, nil
	err := w.raw.Write(w.put) // a deadline, or closed
	if err == nil {
		err = w.err
	}
	n := len(p) - len(w.rest)
	w.rest = nil
	return n, err
}

// put writes what the system takes. It returns false if it takes no more at the moment.
func (w *writer) put(fd uintptr) bool {
	for len(w.rest) > 0 {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(w.rest))), uintptr(len(w.rest)))
		switch errno {
		case 0:
			w.rest = w.rest[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			w.err = os.NewSyscallError("write", errno)
			return true
		}
	}
	return true
}
