package relay

import (
	"syscall"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// CanDontFragment reports whether the DONT-FRAGMENT attribute is supported, RFC 8656 section 14.9.
const CanDontFragment = true

// setDontFragment makes the kernel set the DF bit and reject packets that exceed the path MTU (EMSGSIZE), or allow
// fragmentation.
func setDontFragment(socket Socket, ipv4, not bool) error {
	conn, ok := socket.(syscall.Conn)
	if !ok {
		return nil // not a system socket, so its packets have no DF bit
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = udp.DontFragment(int(fd), ipv4, not) }); err != nil {
		return err
	}
	return failed
}
