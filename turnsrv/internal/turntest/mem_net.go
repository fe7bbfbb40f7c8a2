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

// MemNet is a UDP network in memory. Nothing in it waits for the system, so that time stands still in a synctest bubble.
type MemNet struct {
	Mu    sync.Mutex
	Conns map[netip.AddrPort]*MemConn
	next  uint16
}

func NewMemNet() *MemNet { return &MemNet{Conns: map[netip.AddrPort]*MemConn{}, next: 1024} }

// Listen is a relay.Config.Listen. Port 0 takes the next free one.
func (n *MemNet) Listen(_ string, addr netip.AddrPort) (relay.Socket, error) { return n.Bind(addr) }

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

// MemConn is one socket of a memNet. It has a read deadline; writes do not block.
type MemConn struct {
	net    *MemNet
	Addr   netip.AddrPort
	In     chan memPacket
	once   sync.Once
	closed chan struct{}

	mu       sync.Mutex
	deadline time.Time
	changed  chan struct{} // closed when the deadline changes
	failures []error       // that reads give first
}

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

func (c *MemConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

func (c *MemConn) Fail(errs ...error) {
	c.mu.Lock()
	c.failures = append(c.failures, errs...)
	c.mu.Unlock()
	_ = c.SetReadDeadline(time.Time{})
}

func (c *MemConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.net.Mu.Lock()
		delete(c.net.Conns, c.Addr)
		c.net.Mu.Unlock()
	})
	return nil
}

func (c *MemConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.Addr) }

func (c *MemConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *MemConn) SetWriteDeadline(time.Time) error { return nil }

// ReadFrom and WriteTo make a net.PacketConn of it.
func (c *MemConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	return n, net.UDPAddrFromAddrPort(from), err
}

func (c *MemConn) WriteTo(b []byte, to net.Addr) (int, error) {
	return c.WriteToUDPAddrPort(b, to.(*net.UDPAddr).AddrPort())
}

// Connected is a memConn towards one address, as net.Dial makes it.
type Connected struct {
	*MemConn
	To netip.AddrPort
}

func (c Connected) Read(b []byte) (int, error) {
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil || from == c.To {
			return n, err
		}
	}
}

func (c Connected) Write(b []byte) (int, error) { return c.WriteToUDPAddrPort(b, c.To) }

func (c Connected) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.To) }

// PipeListener is a listener whose connections are net.Pipe's.
type PipeListener struct {
	Conns  chan net.Conn
	Errs   chan error
	once   sync.Once
	closed chan struct{}
}

func NewPipeListener() *PipeListener {
	return &PipeListener{Conns: make(chan net.Conn), Errs: make(chan error), closed: make(chan struct{})}
}

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

func (l *PipeListener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }

func (l *PipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478} }

// Dial returns the client's end of a new connection.
func (l *PipeListener) Dial() (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.Conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.New("refused")
	}
}

// AddressedListener gives the pipes of a PipeListener the addresses of TCP connections, without which pion takes all of
// them for one client.
type AddressedListener struct {
	*PipeListener
	Next *int
}

func (l AddressedListener) Accept() (net.Conn, error) {
	conn, err := l.PipeListener.Accept()
	if err != nil {
		return nil, err
	}
	*l.Next++
	return AddressedConn{Conn: conn, Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10000 + *l.Next}}, nil
}

type AddressedConn struct {
	net.Conn
	Addr net.Addr
}

func (c AddressedConn) RemoteAddr() net.Addr { return c.Addr }

func (c AddressedConn) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478}
}
