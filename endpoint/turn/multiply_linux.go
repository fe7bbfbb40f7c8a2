package turn

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// canMultiply reports whether the system distributes the clients of an address between several sockets.
const canMultiply = true

// multiply opens n more UDP sockets with the address of s. The system assigns each client to one of them (SO_REUSEPORT). s itself
// was bound without this option, so that a second process gets an error rather than half of the clients. If the system lacks the
// option, s.alone says so.
func (s *Socket) multiply(n int, reusePort func(fd int) error) (more []Socket, err error) {
	conn, ok := s.Packets.(*net.UDPConn)
	if !ok || n < 1 {
		return nil, nil
	}
	if s.alone = control(conn, reusePort); s.alone != nil {
		return nil, nil
	}
	for range n {
		packets, err := bindUDP(conn.LocalAddr().String(), func(_, _ string, c syscall.RawConn) error {
			return controlRaw(c, reusePort)
		})
		if err != nil {
			return more, err
		}
		another := *s
		another.Packets = packets
		more = append(more, another)
	}
	return more, nil
}

func reusePort(fd int) error {
	return os.NewSyscallError("SO_REUSEPORT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}

// control calls f with the descriptor of conn.
func control(conn syscall.Conn, f func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return controlRaw(raw, f)
}

func controlRaw(raw syscall.RawConn, f func(fd int) error) error {
	var failed error
	err := raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}
