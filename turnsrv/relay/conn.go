package relay

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// Owner is told what happens at a relayed address. Its methods must not block, and must not close the address.
type Owner interface {
	// Deliver is given a datagram that a peer has sent to the address, or another relayed address of the same allocator. It
	// is called on the goroutine of a reader that many addresses share, or on the one that writes at that other address;
	// from the latter it may come when this one has just been closed. data is valid during the call.
	Deliver(peer netip.AddrPort, data []byte)
	// Sent is told of a datagram of size bytes that went to a peer.
	Sent(size int)
	// Refused is told of one that did not because rule forbids its peer.
	Refused(peer netip.AddrPort, rule string)
	// Unsent is told of one that the system did not take.
	Unsent(err error)
}

// Conn is a relayed transport address. What peers send, its Owner is given. It is a net.PacketConn because pion wants one, for
// nothing but to close it.
type Conn struct {
	allocator *Allocator
	family    *family
	port      uint16
	socket    socket
	owner     Owner
	reserved  Token // for the port above, or zero

	fragmentsNot bool // set at the socket; owned by who calls Send

	closeOnce sync.Once
}

// newConn makes the owner hear what comes to socket.
func (a *Allocator) newConn(f *family, port uint16, socket socket, owner Owner, reserved Token) (*Conn, error) {
	c := &Conn{allocator: a, family: f, port: port, socket: socket, owner: owner, reserved: reserved}
	f.open(port, c)
	if err := socket.start(owner); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// Relayed returns the relayed transport address, as it is advertised.
func (c *Conn) Relayed() netip.AddrPort { return netip.AddrPortFrom(c.family.Advertise, c.port) }

// LocalAddr returns the address that the socket is bound to.
func (c *Conn) LocalAddr() net.Addr { return c.socket.localAddr() }

// ReadFrom ends the goroutine that calls it, which is the one that pion starts for each allocation: it has nothing to do, and
// would keep a stack and a buffer for as long as the allocation lives. pion would take an error for the end of the allocation.
func (*Conn) ReadFrom([]byte) (int, net.Addr, error) {
	runtime.Goexit()
	return 0, nil, net.ErrClosed
}

// WriteTo is not called: what clients send does not pass through pion.
func (*Conn) WriteTo([]byte, net.Addr) (int, error) { return 0, errors.ErrUnsupported }

// Send sends p to a peer, if the policy lets it. What happened, the owner is told. dontFragment says that routers may not fragment
// it, RFC 8656 section 11.2. Calls must not overlap.
func (c *Conn) Send(p []byte, to netip.AddrPort, dontFragment bool) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	own, rule, ok := c.allocator.route(to)
	if !ok {
		c.owner.Refused(to, rule)
		return
	}
	if own != nil {
		own.owner.Deliver(c.Relayed(), p)
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

// Close closes the socket and frees its port; the readers call nothing of the Owner any more. It always returns nil, and may
// be called more than once: pion stops closing its allocations at the first error.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() {
		// First the table, so that no other allocation takes the port for a relayed address that is no longer one.
		c.family.open(c.port, nil)
		_ = c.socket.close()
		c.family.release(c.port)
		if c.reserved != (Token{}) {
			c.allocator.dropReservation(c.reserved)
		}
	})
	return nil
}

// SetDeadline, SetReadDeadline and SetWriteDeadline complete net.PacketConn. Nothing here waits.
func (*Conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (*Conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (*Conn) SetWriteDeadline(time.Time) error { return nil }
