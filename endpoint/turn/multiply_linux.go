package turn

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// canMultiply reports whether the system distributes the clients of an address between several sockets.
const canMultiply = true

// multiply opens n more UDP sockets with the address of s. The system assigns each client to one of them (SO_REUSEPORT). s itself
// was bound without this option, so that a second process gets an error rather than half of the clients.
func (s Socket) multiply(n int) (more []Socket, err error) {
	conn, ok := s.Packets.(*net.UDPConn)
	if !ok || n < 1 {
		return nil, nil
	}
	if err := control(conn, reusePort); err != nil {
		return nil, err
	}
	for range n {
		packets, err := bindUDP(conn.LocalAddr().String(), func(_, _ string, c syscall.RawConn) error {
			return controlRaw(c, reusePort)
		})
		if err != nil {
			return more, err
		}
		another := s
		another.Packets = packets
		more = append(more, another)
	}
	return more, nil
}

func reusePort(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }

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
