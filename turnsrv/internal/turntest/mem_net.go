package turntest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/turnsrv/relay"
)

// MemNet is an in-memory UDP network. It never waits for the operating system, so it can be used in a synctest bubble.
type MemNet struct {
	Mu    sync.Mutex
	Conns map[netip.AddrPort]*MemConn
	next  uint16
}

// NewMemNet returns a network without sockets.
func NewMemNet() *MemNet { return &MemNet{Conns: map[netip.AddrPort]*MemConn{}, next: 1024} }

// Listen implements relay.Config.Listen. Port 0 selects the next free port.
func (n *MemNet) Listen(_ string, addr netip.AddrPort) (relay.Socket, error) { return n.Bind(addr) }

// Bind returns a socket with the given address. Port 0 selects the next free port.
func (n *MemNet) Bind(addr netip.AddrPort) (*MemConn, error) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	if addr.Port() == 0 {
		n.next++
		addr = netip.AddrPortFrom(addr.Addr(), n.next)
	}
	if n.Conns[addr] != nil {
		return nil, fmt.Errorf("bind %v: %w", addr, syscall.EADDRINUSE)
	}
	c := &MemConn{net: n, Addr: addr, In: make(chan memPacket, 1024), closed: make(chan struct{}), changed: make(chan struct{})}
	n.Conns[addr] = c
	return c, nil
}

type memPacket struct {
	data []byte
	from netip.AddrPort
}

// MemConn is a socket of a MemNet. It supports a read deadline. Writes do not block.
type MemConn struct {
	net    *MemNet
	Addr   netip.AddrPort
	In     chan memPacket
	once   sync.Once
	closed chan struct{}

	mu       sync.Mutex
	deadline time.Time
	changed  chan struct{} // closed when the deadline changes
	failures []error       // returned by the next reads
}

// ReadFromUDPAddrPort waits for the next packet. It returns the errors given to Fail first.
func (c *MemConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		c.mu.Lock()
		deadline, changed := c.deadline, c.changed
		if len(c.failures) > 0 {
			err := c.failures[0]
			c.failures = c.failures[1:]
			c.mu.Unlock()
			return 0, netip.AddrPort{}, err
		}
		c.mu.Unlock()
		var due <-chan time.Time
		if !deadline.IsZero() {
			if !time.Now().Before(deadline) {
				return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
			}
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			due = timer.C
		}
		select {
		case p := <-c.In:
			return copy(b, p.data), p.from, nil
		case <-due:
		case <-changed:
		case <-c.closed:
			return 0, netip.AddrPort{}, net.ErrClosed
		}
	}
}

// WriteToUDPAddrPort sends a packet. It is lost if no socket has the address or the queue of that socket is full.
func (c *MemConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	c.net.Mu.Lock()
	peer := c.net.Conns[to]
	c.net.Mu.Unlock()
	if peer != nil {
		select {
		case peer.In <- memPacket{append([]byte(nil), b...), c.Addr}:
		default:
		}
	}
	return len(b), nil
}

// SetReadDeadline sets the deadline of reads, including one in progress.
func (c *MemConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

// Fail makes the next reads return errs.
func (c *MemConn) Fail(errs ...error) {
	c.mu.Lock()
	c.failures = append(c.failures, errs...)
	c.mu.Unlock()
	_ = c.SetReadDeadline(time.Time{})
}

// Close closes the socket and frees its address.
func (c *MemConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.net.Mu.Lock()
		delete(c.net.Conns, c.Addr)
		c.net.Mu.Unlock()
	})
	return nil
}

// LocalAddr returns the address of the socket.
func (c *MemConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.Addr) }

// SetDeadline sets the deadline of reads.
func (c *MemConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing, because writes do not block.
func (c *MemConn) SetWriteDeadline(time.Time) error { return nil }

// ReadFrom implements net.PacketConn.
func (c *MemConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	return n, net.UDPAddrFromAddrPort(from), err
}

// WriteTo implements net.PacketConn.
func (c *MemConn) WriteTo(b []byte, to net.Addr) (int, error) {
	return c.WriteToUDPAddrPort(b, to.(*net.UDPAddr).AddrPort())
}

// Connected is a MemConn connected to one address, as net.Dial returns.
type Connected struct {
	*MemConn
	To netip.AddrPort
}

// Read reads the next packet from To and discards all others.
func (c Connected) Read(b []byte) (int, error) {
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil || from == c.To {
			return n, err
		}
	}
}

// Write sends a packet to To.
func (c Connected) Write(b []byte) (int, error) { return c.WriteToUDPAddrPort(b, c.To) }

// RemoteAddr returns To.
func (c Connected) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.To) }

// PipeListener is a listener whose connections are created by net.Pipe.
type PipeListener struct {
	Conns  chan net.Conn
	Errs   chan error
	once   sync.Once
	closed chan struct{}
}

// NewPipeListener returns a listener without connections.
func NewPipeListener() *PipeListener {
	return &PipeListener{Conns: make(chan net.Conn), Errs: make(chan error), closed: make(chan struct{})}
}

// Accept returns the next connection of Dial, or the next error sent to Errs.
func (l *PipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.Conns:
		return c, nil
	case err := <-l.Errs:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close makes Accept and Dial fail.
func (l *PipeListener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }

// Addr returns the address 127.0.0.1:3478.
func (l *PipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478} }

// Dial returns the client side of a new connection.
func (l *PipeListener) Dial() (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.Conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.New("refused")
	}
}

// AddressedListener gives the connections of a PipeListener distinct addresses. Without them, pion/turn treats all connections
// as one client.
type AddressedListener struct {
	*PipeListener
	Next *int
}

// Accept returns the next connection, with an address of its own.
func (l AddressedListener) Accept() (net.Conn, error) {
	conn, err := l.PipeListener.Accept()
	if err != nil {
		return nil, err
	}
	*l.Next++
	return AddressedConn{Conn: conn, Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10000 + *l.Next}}, nil
}

// AddressedConn is a connection with a remote address.
type AddressedConn struct {
	net.Conn
	Addr net.Addr
}

// RemoteAddr returns Addr.
func (c AddressedConn) RemoteAddr() net.Addr { return c.Addr }

// LocalAddr returns the address 127.0.0.1:3478.
func (c AddressedConn) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478}
}
