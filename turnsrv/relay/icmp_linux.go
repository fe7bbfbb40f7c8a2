package relay

import (
	"errors"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// maxErrors is the number of ICMP errors that passErrors passes on at most.
const maxErrors = 16

// keepErrors makes the system keep ICMP errors about datagrams of the socket, if it is one of the system.
func keepErrors(socket Socket, ipv4 bool) (err error) {
	control(socket, func(fd int) { err = udp.KeepErrors(fd, ipv4, true) })
	return err
}

// mayBePending reports whether err, of a call on a socket, may be an ICMP error about an earlier datagram. The call should be repeated.
func mayBePending(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && udp.MayBePending(errno)
}

// passErrors passes the ICMP errors that the system has kept to the owner, and returns their number.
func (s *goroutineSocket) passErrors() int {
	if s.owner == nil {
		return 0
	}
	var kept []udp.ICMP // the owner may close the socket, which would wait for control
	control(s.Socket, func(fd int) {
		for e, ok := udp.ReceiveError(fd); ok && len(kept) < maxErrors; e, ok = udp.ReceiveError(fd) {
			kept = append(kept, e)
		}
	})
	for _, e := range kept {
		s.owner.Failed(e.To, attribute(e), time.Now())
	}
	return len(kept)
}

// control calls f with the descriptor of a socket of the system. It does not call f if there is none.
func control(socket Socket, f func(fd int)) {
	if conn, ok := socket.(syscall.Conn); ok {
		if raw, err := conn.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { f(int(fd)) })
		}
	}
}
