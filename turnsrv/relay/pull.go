package relay

import (
	"errors"
	"net/netip"
	"time"
)

// StartPull is like Start for an address that was opened without a loop. owner receives only what other relayed addresses of
// the allocator send. Receive returns everything else.
func (c *Conn) StartPull(owner Owner) {
	c.owner = owner
	c.family.open(c.port, c)
}

// ReadFrom waits for a datagram and reads it into b, truncated to its length. The address must have been started with StartPull.
// ReadFrom returns os.ErrDeadlineExceeded after Wake and net.ErrClosed after Close, or an error that wraps one of them. Calls
// must not overlap.
func (c *Conn) ReadFrom(b []byte) (n int, peer netip.AddrPort, err error) {
	s, ok := c.socket.(*goroutineSocket)
	if !ok {
		return 0, netip.AddrPort{}, errors.ErrUnsupported
	}
	n, peer, err = s.ReadFromUDPAddrPort(b)
	return n, netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()), err
}

// Wake makes ReadFrom return immediately, until Wake is called with false. Safe for concurrent use.
func (c *Conn) Wake(now bool) {
	var deadline time.Time
	if now {
		deadline = time.Unix(1, 0)
	}
	if s, ok := c.socket.(*goroutineSocket); ok {
		if timed, ok := s.Socket.(interface{ SetReadDeadline(time.Time) error }); ok {
			_ = timed.SetReadDeadline(deadline)
		}
	}
}
