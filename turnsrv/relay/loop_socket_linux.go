package relay

import (
	"net/netip"

	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// loopSocket implements socket on an event loop, so that an idle allocation costs only a descriptor and a few bytes. Its methods
// are called on the goroutine of the loop, except close before start.
type loopSocket struct {
	udp.Socket
	loop *loop.Loop // nil before start
}

// listenOnLoop opens a socket for an event loop.
func listenOnLoop(network string, addr netip.AddrPort) (socket, error) {
	s := new(loopSocket)
	if err := s.Listen(network, addr); err != nil {
		return nil, err
	}
	return s, nil
}

// inheritSocket returns a socket for an event loop that owns fd, a socket of another process, and the address that it is bound to.
func inheritSocket(fd int) (socket, netip.AddrPort, error) {
	s := new(loopSocket)
	bound, err := s.Inherit(fd)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return s, bound, nil
}

func (s *loopSocket) descriptor() (fd int, ok bool) { return s.FD(), s.FD() >= 0 }

func (s *loopSocket) start(c *Conn) error {
	var err error
	if c.inherited {
		err = c.loop.Inherit(&s.Socket, c)
	} else {
		err = c.loop.Receive(&s.Socket, c, false)
	}
	if err != nil {
		return err
	}
	s.loop = c.loop
	return nil
}

// send keeps the traffic class of the client's packet, RFC 8656 sections 14 and 15.
func (s *loopSocket) send(b []byte, to netip.AddrPort, owner Owner) {
	s.loop.Send(&s.Socket, b, to, netip.Addr{}, s.loop.Class(), len(b), owner)
}

func (s *loopSocket) dontFragment(not bool) error {
	if s.loop != nil {
		s.loop.Flush(&s.Socket)
	}
	return s.SetDontFragment(not)
}

func (s *loopSocket) close() error {
	if s.FD() < 0 {
		return nil
	}
	if s.loop != nil {
		s.loop.Flush(&s.Socket)
		s.loop.Unwatch(s.FD())
	}
	return s.Close()
}
