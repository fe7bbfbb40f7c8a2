//go:build amd64 || arm64

package kernel

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// places is how many Paths, of one process or of several, can have filters in a network namespace.
const places = 8

// place makes the filters of a Path different from those of others: the endpoints of one configuration, and the process that takes
// over from another one. It is an address of a Unix socket, which the system keeps for each network namespace, and frees when the
// process ends. So it is known of each filter whether its process is still running.
type place struct {
	number int
	socket int
}

// claim takes the place with this number. The error is unix.EADDRINUSE if it is taken.
func claim(number int) (*place, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	name := fmt.Sprintf("@mailturn kernel path %d", number) // @ means an address without a file
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), unix.Close(fd))
	}
	return &place{number, fd}, nil
}

// claimAny takes a free place.
func claimAny() (*place, error) {
	for number := range places {
		p, err := claim(number)
		if !errors.Is(err, unix.EADDRINUSE) {
			return p, err
		}
	}
	return nil, fmt.Errorf("%d servers on this host have filters for the kernel path already", places)
}

func (p *place) release() error { return os.NewSyscallError("close", unix.Close(p.socket)) }
