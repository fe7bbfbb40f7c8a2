//go:build amd64 || arm64

package kernel

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// place makes the filters of a Path different from those of others: the endpoints of one configuration, and the process that takes
// over from another one. It is a random handle, and a Unix socket with an abstract address of this handle, which the system keeps for
// each network namespace, and frees when the process ends. So it is known of each filter whether its process is still running.
//
// Anybody may take such an address, but not before it is known. Filters have the user of their process in their name. So another user
// who takes the address of a process that has ended does not hold its filters.
type place struct {
	handle uint32
	socket int
}

func address(handle uint32) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: fmt.Sprintf("@mailturn kernel path %08x", handle)} // @ means an address without a file
}

// claim takes a place.
func claim() (*place, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	p := &place{max(rand.Uint32(), 1), fd}
	if err = os.NewSyscallError("bind", unix.Bind(fd, address(p.handle))); err == nil {
		err = os.NewSyscallError("listen", unix.Listen(fd, 1))
	}
	if err != nil {
		return nil, errors.Join(err, p.release())
	}
	return p, nil
}

// held reports whether a process of this user has the place.
func held(handle, user uint32) (bool, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	switch err := unix.Connect(fd, address(handle)); {
	case errors.Is(err, unix.ECONNREFUSED):
		return false, nil
	case errors.Is(err, unix.EAGAIN): // nobody accepts the connections, so after some of them, there is no room
		return true, nil
	case err != nil:
		return false, os.NewSyscallError("connect", err)
	}
	holder, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED) // of when it began to listen
	if err != nil {
		return false, os.NewSyscallError("getsockopt", err)
	}
	return holder.Uid == user, nil
}

func (p *place) release() error { return os.NewSyscallError("close", unix.Close(p.socket)) }
