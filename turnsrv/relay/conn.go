package relay

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Owner receives the packets and events of a relayed transport address. Its methods must not block and must not close the
// address.
type Owner interface {
	// Deliver is called with a datagram from a peer, or from another relayed address of the same allocator. It is called on the
	// goroutine of a reader that many addresses share, or on the goroutine that sends from the other address. In the latter case
	// it may be called shortly after this address is closed. data is valid during the call.
	Deliver(peer netip.AddrPort, data []byte, now time.Time)
	// Sent is called after a datagram of size bytes was sent to a peer.
	Sent(size int)
	// Refused is called for a datagram that was dropped because rule refuses its peer.
	Refused(peer netip.AddrPort, rule string, now time.Time)
	// Unsent is called for a datagram that the system did not accept.
	Unsent(err error)
}

// Conn is a relayed transport address. After Start, its Owner receives what peers send.
type Conn struct {
	allocator *Allocator
	family    *family
	port      uint16
	socket    socket
	owner     Owner // set by Start
	reserved  Token // token of the port above, or zero

	fragmentsNot bool // current socket option; owned by the caller of Send

	closeOnce sync.Once
}

// Start starts receiving for owner. It is called once, before any Send. After an error, the caller must close the address.
func (c *Conn) Start(owner Owner) error {
	c.owner = owner
	c.family.open(c.port, c)
	return c.socket.start(owner)
}

// Relayed returns the relayed transport address as it is advertised.
func (c *Conn) Relayed() netip.AddrPort { return netip.AddrPortFrom(c.family.Advertise, c.port) }

// LocalAddr returns the address that the socket is bound to.
func (c *Conn) LocalAddr() net.Addr { return c.socket.localAddr() }

// Send sends p to a peer if the policy allows it. The result is reported to the Owner. If dontFragment is true, routers may not
// fragment the packet, RFC 8656 section 11.2. Calls must not overlap.
func (c *Conn) Send(p []byte, to netip.AddrPort, dontFragment bool, now time.Time) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	own, rule, ok := c.allocator.route(to)
	if !ok {
		c.owner.Refused(to, rule, now)
		return
	}
	if own != nil {
		own.owner.Deliver(c.Relayed(), p, now)
		c.owner.Sent(len(p))
		return
	}
	if dontFragment != c.fragmentsNot {
		if err := c.socket.dontFragment(dontFragment); err != nil {
			c.owner.Unsent(err)
			return
		}
		c.fragmentsNot = dontFragment
	}
	if err := c.socket.send(p, to); err != nil {
		c.owner.Unsent(err)
		return
	}
	c.owner.Sent(len(p))
}

// Close closes the socket and frees its port. After it returns, readers no longer call the Owner. It may be called more than
// once.
func (c *Conn) Close() {
	c.closeOnce.Do(func() {
		// Remove it from the table first, so that other allocations do not treat the port as a relayed address any more.
		c.family.open(c.port, nil)
		_ = c.socket.close()
		c.family.release(c.port)
		if c.reserved != (Token{}) {
			c.allocator.dropReservation(c.reserved)
		}
	})
}
