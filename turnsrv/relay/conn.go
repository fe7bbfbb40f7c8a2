package relay

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Owner receives the packets and events of a relayed transport address. Its methods must not block and must not close the
// address. If the address was opened for a loop, they are called on the goroutine of the loop.
type Owner interface {
	// Deliver is called with a datagram from a peer, or from another relayed address of the same allocator. Without a loop, it is
	// called on the goroutine of a reader, or on the goroutine that sends from the other address. In the latter case, and with a
	// loop, it may be called shortly after this address is closed. data is valid during the call.
	Deliver(peer netip.AddrPort, data []byte, now time.Time)
	// Sent is called once for each datagram passed to Send that was not refused: with nil after it was sent to the peer, otherwise
	// with the error. size is its length in bytes.
	Sent(size int, err error)
	// Failed is called when an ICMP error has arrived about a datagram to a peer, RFC 8656 section 11.5. It is called like Deliver.
	Failed(peer netip.AddrPort, e stun.ICMP, now time.Time)
	// Refused is called for a datagram that was dropped because rule refuses its peer.
	Refused(peer netip.AddrPort, rule string, now time.Time)
}

// Conn is a relayed transport address. After Start, its Owner receives what peers send.
type Conn struct {
	// What a packet requires is together, so that it is in few cache lines. The order leaves no gaps, because most Conns are idle.
	family       *family
	socket       socket
	owner        Owner      // set by Start
	loop         *loop.Loop // reads the socket; nil if the socket has a goroutine of its own
	allowed      allowed    // owned by the caller of Send
	port         uint16
	fragmentsNot bool // current socket option; owned by the caller of Send

	inherited bool // another process has received from the socket
	closeOnce sync.Once
	reserved  Token // token of the port above, or zero
}

// Start starts receiving for owner. It is called once, before any Send. After an error, the caller must close the address.
func (c *Conn) Start(owner Owner) error {
	c.owner = owner
	c.family.open(c.port, c)
	return c.socket.start(c)
}

// Relayed returns the relayed transport address as it is advertised.
func (c *Conn) Relayed() netip.AddrPort { return netip.AddrPortFrom(c.family.Advertise, c.port) }

// Reservation returns the token of the port that was reserved together with the address, or zero.
func (c *Conn) Reservation() Token { return c.reserved }

// LocalAddr returns the address that the socket is bound to. A socket on a loop does not keep it.
func (c *Conn) LocalAddr() net.Addr {
	if s, ok := c.socket.(*goroutineSocket); ok {
		return s.LocalAddr()
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.family.Bind, c.port))
}

// Send sends p to a peer if the policy allows it. The result is reported to the Owner. If dontFragment is true, routers may not
// fragment the packet, RFC 8656 section 11.2. Calls must not overlap; with a loop, they are made on its goroutine.
func (c *Conn) Send(p []byte, to netip.AddrPort, dontFragment bool, now time.Time) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	own, rule, ok := c.allowed.route(c.family.allocator, to)
	if !ok {
		c.owner.Refused(to, rule, now)
		return
	}
	if own != nil {
		c.owner.Sent(len(p), c.pass(p, own, now))
		return
	}
	if dontFragment != c.fragmentsNot {
		if err := c.socket.dontFragment(dontFragment); err != nil {
			c.owner.Sent(len(p), err)
			return
		}
		c.fragmentsNot = dontFragment
	}
	c.socket.send(p, to, c.owner)
}

// errBusy is reported for a datagram to a relayed address on another loop that has too much to do.
var errBusy = errors.New("too many packets are waiting for the event loop of the other relayed address")

// pass delivers p to another relayed address of the allocator.
func (c *Conn) pass(p []byte, to *Conn, now time.Time) error {
	if to.loop == nil || to.loop == c.loop {
		to.owner.Deliver(c.Relayed(), p, now)
		return nil
	}
	if !c.loop.Pass(to.loop, to, c.Relayed(), p) {
		return errBusy
	}
	return nil
}

// Receive implements loop.Receiver.
func (c *Conn) Receive(data []byte, from netip.AddrPort, _ netip.Addr, now time.Time) {
	c.owner.Deliver(from, data, now)
}

// ReceiveError implements loop.ErrorReceiver.
func (c *Conn) ReceiveError(e udp.ICMP, now time.Time) { c.owner.Failed(e.To, attribute(e), now) }

// attribute returns the form of an error for clients.
func attribute(e udp.ICMP) stun.ICMP { return stun.ICMP{Type: e.Type, Code: e.Code, Data: e.MTU} }

// Close closes the socket and frees its port. After it returns, readers no longer call the Owner. It may be called more than
// once. With a loop, it is called on the goroutine of the loop.
func (c *Conn) Close() {
	c.closeOnce.Do(func() {
		// Remove it from the table first, so that other allocations do not treat the port as a relayed address any more.
		c.family.open(c.port, nil)
		_ = c.socket.close()
		c.family.release(c.port)
		if c.reserved != (Token{}) {
			c.family.allocator.dropReservation(c.reserved)
		}
	})
}
