package relay

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Owner is told what happens at a relayed address. Its methods must not block, and must not close the address.
type Owner interface {
	// Deliver is given a datagram that a peer has sent to the address, or another relayed address of the same allocator. It
	// is called on the goroutine of a reader that many addresses share, or on the one that writes at that other address;
	// from the latter it may come when this one has just been closed. data is valid during the call.
	Deliver(peer netip.AddrPort, data []byte, now time.Time)
	// Sent is told of a datagram of size bytes that went to a peer.
	Sent(size int)
	// Refused is told of one that did not because rule forbids its peer.
	Refused(peer netip.AddrPort, rule string, now time.Time)
	// Unsent is told of one that the system did not take.
	Unsent(err error)
}

// Conn is a relayed transport address. From Start on, its Owner is given what peers send.
type Conn struct {
	allocator *Allocator
	family    *family
	port      uint16
	socket    socket
	owner     Owner // set by Start
	reserved  Token // for the port above, or zero

	fragmentsNot bool // set at the socket; owned by who calls Send

	closeOnce sync.Once
}

// Start has owner told, from now on, of what comes to the address. It is called once, before any Send. After an error the address
// has to be closed.
func (c *Conn) Start(owner Owner) error {
	c.owner = owner
	c.family.open(c.port, c)
	return c.socket.start(owner)
}

// Relayed returns the relayed transport address, as it is advertised.
func (c *Conn) Relayed() netip.AddrPort { return netip.AddrPortFrom(c.family.Advertise, c.port) }

// LocalAddr returns the address that the socket is bound to.
func (c *Conn) LocalAddr() net.Addr { return c.socket.localAddr() }

// Send sends p to a peer, if the policy lets it. What happened, the owner is told. dontFragment says that routers may not fragment
// it, RFC 8656 section 11.2. Calls must not overlap.
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

// Close closes the socket and frees its port. When it returns, the readers call nothing of the Owner any more. It may be called
// more than once.
func (c *Conn) Close() {
	c.closeOnce.Do(func() {
		// First the table, so that no other allocation takes the port for a relayed address that is no longer one.
		c.family.open(c.port, nil)
		_ = c.socket.close()
		c.family.release(c.port)
		if c.reserved != (Token{}) {
			c.allocator.dropReservation(c.reserved)
		}
	})
}
