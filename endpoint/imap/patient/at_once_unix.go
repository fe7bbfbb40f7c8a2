//go:build unix && !linux

package patient

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const canReadAtOnce = true

// readAtOnce reads from a non-blocking descriptor. It returns ErrNothingYet if it would block.
func readAtOnce(fd uintptr, p []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), p)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, ErrNothingYet
		default:
			return 0, os.NewSyscallError("read", err)
		}
	}
}

// readable reports whether readAtOnce would return something other than ErrNothingYet.
func readable(fd uintptr) bool {
	fds := [...]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds[:], 0)
	return n > 0 || err != nil
}

// A writer writes with the connection's own Write.
type writer struct{ raw syscall.RawConn }

func (*writer) write(conn net.Conn, p []byte) (int, error) { return conn.Write(p) }
