package udp

import (
	"os"

	"golang.org/x/sys/unix"
)

// Probe returns an error if this system lacks a call that Sockets are used with: it may be older than Linux 3.0, or a sandbox may
// forbid the call.
func Probe() error {
	for _, call := range []struct {
		name   string
		number uintptr
	}{{"recvmmsg", unix.SYS_RECVMMSG}, {"sendmmsg", unix.SYS_SENDMMSG}} {
		if _, _, errno := unix.RawSyscall6(call.number, ^uintptr(0), 0, 0, 0, 0, 0); errno != unix.EBADF {
			return os.NewSyscallError(call.name, errno)
		}
	}
	return nil
}

// ProbeSegment returns an error if this system cannot split what an Outbox passes to it as one: see Outbox.SetSegment.
func ProbeSegment() error {
	return probe("UDP_SEGMENT", func(fd int) error {
		_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		return err
	})
}

// ProbeCoalesce returns an error if this system cannot deliver several datagrams as one: see Socket.SetCoalesce.
func ProbeCoalesce() error {
	return probe("UDP_GRO", func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) })
}

// probe calls f with a new UDP socket. Without a socket, there is nothing to find out.
func probe(option string, f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		if fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP); err != nil {
			return nil
		}
	}
	defer func() { _ = unix.Close(fd) }()
	return os.NewSyscallError(option, f(fd))
}
