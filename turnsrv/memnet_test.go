package turnsrv

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

// memNet is a UDP network in memory. Nothing in it waits for the system, so that time stands still in a synctest bubble.
type memNet struct {
	mu    sync.Mutex
	conns map[netip.AddrPort]*memConn
	next  uint16
}

func newMemNet() *memNet { return &memNet{conns: map[netip.AddrPort]*memConn{}, next: 1024} }

// listen is a relay.Config.Listen. Port 0 takes the next free one.
func (n *memNet) listen(_ string, addr netip.AddrPort) (relay.Socket, error) { return n.bind(addr) }

func (n *memNet) bind(addr netip.AddrPort) (*memConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if addr.Port() == 0 {
		n.next++
		addr = netip.AddrPortFrom(addr.Addr(), n.next)
	}
	if n.conns[addr] != nil {
		return nil, fmt.Errorf("bind %v: %w", addr, syscall.EADDRINUSE)
	}
	c := &memConn{net: n, addr: addr, in: make(chan memPacket, 1024), closed: make(chan struct{}), changed: make(chan struct{})}
	n.conns[addr] = c
	return c, nil
}

type memPacket struct {
	data []byte
	from netip.AddrPort
}

// memConn is one socket of a memNet. It has a read deadline; writes do not block.
type memConn struct {
	net    *memNet
	addr   netip.AddrPort
	in     chan memPacket
	once   sync.Once
	closed chan struct{}

	mu       sync.Mutex
	deadline time.Time
	changed  chan struct{} // closed when the deadline changes
	failures []error       // that reads give first
}

func (c *memConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
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
		case p := <-c.in:
			return copy(b, p.data), p.from, nil
		case <-due:
		case <-changed:
		case <-c.closed:
			return 0, netip.AddrPort{}, net.ErrClosed
		}
	}
}

func (c *memConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	c.net.mu.Lock()
	peer := c.net.conns[to]
	c.net.mu.Unlock()
	if peer != nil {
		select {
		case peer.in <- memPacket{append([]byte(nil), b...), c.addr}:
		default:
		}
	}
	return len(b), nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

func (c *memConn) fail(errs ...error) {
	c.mu.Lock()
	c.failures = append(c.failures, errs...)
	c.mu.Unlock()
	_ = c.SetReadDeadline(time.Time{})
}

func (c *memConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.net.mu.Lock()
		delete(c.net.conns, c.addr)
		c.net.mu.Unlock()
	})
	return nil
}

func (c *memConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(c.addr) }
func (c *memConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// ReadFrom and WriteTo make a net.PacketConn of it.
func (c *memConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	return n, net.UDPAddrFromAddrPort(from), err
}

func (c *memConn) WriteTo(b []byte, to net.Addr) (int, error) {
	return c.WriteToUDPAddrPort(b, addrPortOf(to))
}

// connected is a memConn towards one address, as net.Dial makes it.
type connected struct {
	*memConn
	to netip.AddrPort
}

func (c connected) Read(b []byte) (int, error) {
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil || from == c.to {
			return n, err
		}
	}
}

func (c connected) Write(b []byte) (int, error) { return c.WriteToUDPAddrPort(b, c.to) }
func (c connected) RemoteAddr() net.Addr        { return net.UDPAddrFromAddrPort(c.to) }

// pipeListener is a listener whose connections are net.Pipe's.
type pipeListener struct {
	conns  chan net.Conn
	errs   chan error
	once   sync.Once
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), errs: make(chan error), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case err := <-l.errs:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478} }

// dial returns the client's end of a new connection.
func (l *pipeListener) dial() (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.New("refused")
	}
}
