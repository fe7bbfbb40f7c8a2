package pionturn

import (
	"errors"
	"net"
	"sync"
	"time"
)

// packetConn is a UDP socket as pion sees it. pion stops serving at the first error of its socket, so ReadFrom returns none until
// the socket is closed.
type packetConn struct {
	net.PacketConn
	server *Server
	last   net.Addr      // sender of the message that pion is processing; owned by pion's goroutine that reads
	closed chan struct{} // closed by Close, or when the wrapped socket turns out to be closed
	once   sync.Once
}

func newPacketConn(s *Server, inner net.PacketConn) *packetConn {
	return &packetConn{PacketConn: inner, server: s, closed: make(chan struct{})}
}

// ReadFrom implements net.PacketConn.
func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	c.server.forget(c.last)
	for wait := time.Duration(0); ; {
		n, from, err := c.PacketConn.ReadFrom(p)
		if err == nil {
			c.last = from
			c.server.take(from, p[:n])
			return n, from, nil
		}
		if errors.Is(err, net.ErrClosed) {
			c.end()
		}
		wait = nextWait(wait)
		select {
		case <-time.After(wait):
		case <-c.closed:
			return 0, nil, err
		}
	}
}

// Close closes the socket. It may be called more than once.
func (c *packetConn) Close() error {
	c.end()
	return c.PacketConn.Close()
}

func (c *packetConn) end() { c.once.Do(func() { close(c.closed) }) }

// nextWait returns how long to wait after an error of a socket, given the previous wait. Temporary errors pass soon, and permanent
// ones must not occupy a processor.
func nextWait(last time.Duration) time.Duration { return min(2*last+5*time.Millisecond, time.Second) }
