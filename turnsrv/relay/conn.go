package relay

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Owner is told what happens at a relayed address. Its methods are called on the goroutine that reads or writes there;
// they must not block.
type Owner interface {
	// Admit reports whether a datagram of size bytes from a peer may pass to the client.
	Admit(peer netip.AddrPort, size int) bool
	// Deliver is given a datagram that another relayed address of the same allocator sends to this one, from that
	// address. Admit has not been asked. It is called on the goroutine that writes there, with no lock held, and may come
	// when the address has just been closed. data is valid during the call.
	Deliver(peer netip.AddrPort, data []byte)
	// Sent is told of a datagram of size bytes that went to a peer.
	Sent(size int)
	// Refused is told of one that did not because rule forbids its peer.
	Refused(peer netip.AddrPort, rule string)
	// Unsent is told of one that the system did not take.
	Unsent(err error)
	// Oversize is told of a datagram from a peer that did not fit the reader's buffer.
	Oversize()
	// Drained is told, once, that the reader has seen the end and will call nothing of the Owner again.
	Drained()
}

// Conn is a relayed transport address as pion wants it: a net.PacketConn towards peers.
//
// ReadFrom fails only after Close, and WriteTo never: pion takes an error for the end of the allocation, while a peer
// that is not there or a network that is full is nothing of the kind.
type Conn struct {
	allocator *Allocator
	family    *family
	port      uint16
	socket    Socket
	owner     Owner

	// What ReadFrom returns as the peer, over and over: pion has done with it at the next call, and there is one reader.
	peer   net.UDPAddr
	peerIP [16]byte

	dontFragment, fragmentsNot bool // wanted and set, owned by the goroutine that calls WriteTo

	closeOnce, drainOnce sync.Once
}

func (a *Allocator) newConn(f *family, port uint16, socket Socket, owner Owner) *Conn {
	c := &Conn{allocator: a, family: f, port: port, socket: socket, owner: owner}
	c.peer.IP = c.peerIP[:]
	f.open(port, c)
	return c
}

// Relayed returns the relayed transport address, as it is advertised.
func (c *Conn) Relayed() netip.AddrPort { return netip.AddrPortFrom(c.family.Advertise, c.port) }

// LocalAddr returns the address that the socket is bound to.
func (c *Conn) LocalAddr() net.Addr { return c.socket.LocalAddr() }

// ReadFrom reads one datagram of an admitted peer. One that does not fit p with a byte to spare is dropped, because it
// would be cut. The address is valid until the next call. There must be one reader.
func (c *Conn) ReadFrom(p []byte) (int, net.Addr, error) {
	for backoff := time.Duration(0); ; {
		n, from, err := c.socket.ReadFromUDPAddrPort(p)
		if errors.Is(err, net.ErrClosed) {
			c.drainOnce.Do(c.owner.Drained)
			return 0, nil, net.ErrClosed
		}
		if err != nil {
			// Nothing is known that fails again and again here; if something does, it must not take a core.
			backoff = min(backoff*2+time.Millisecond, time.Second)
			time.Sleep(backoff)
			continue
		}
		backoff = 0
		if n == len(p) {
			c.owner.Oversize()
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if !c.owner.Admit(from, n) {
			continue
		}
		c.peerIP, c.peer.Port = from.Addr().As16(), int(from.Port())
		return n, &c.peer, nil
	}
}

// WriteTo sends p to a peer, if the policy lets it. It reports success in any case; what happened, the owner knows.
func (c *Conn) WriteTo(p []byte, addr net.Addr) (int, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		c.owner.Unsent(net.InvalidAddrError("not a UDP address"))
		return len(p), nil
	}
	c.send(p, udp.AddrPort())
	return len(p), nil
}

func (c *Conn) send(p []byte, to netip.AddrPort) {
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
	if c.dontFragment != c.fragmentsNot {
		if err := setDontFragment(c.socket, c.family.Bind.Is4(), c.dontFragment); err != nil {
			c.owner.Unsent(err)
			return
		}
		c.fragmentsNot = c.dontFragment
	}
	if _, err := c.socket.WriteToUDPAddrPort(p, to); err != nil {
		c.owner.Unsent(err)
		return
	}
	c.owner.Sent(len(p))
}

// DontFragment says whether the datagrams that WriteTo sends from now on may be fragmented, RFC 8656 section 11.2. It
// must be called on the goroutine that calls WriteTo.
func (c *Conn) DontFragment(not bool) { c.dontFragment = not }

// Close closes the socket and frees its port. It always returns nil, and may be called more than once: pion stops
// closing its allocations at the first error.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() {
		// First the table, so that no other allocation takes the port for a relayed address that is no longer one.
		c.family.open(c.port, nil)
		_ = c.socket.Close()
		c.family.release(c.port)
	})
	return nil
}

// SetDeadline, SetReadDeadline and SetWriteDeadline complete net.PacketConn.
func (c *Conn) SetDeadline(t time.Time) error { return c.socket.SetDeadline(t) }

// SetReadDeadline sets the deadline of ReadFrom.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.socket.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of WriteTo.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.socket.SetWriteDeadline(t) }
