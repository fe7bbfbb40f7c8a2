package relay

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Socket is what the package needs of a UDP socket that is not one of its own making. A *net.UDPConn is one.
type Socket interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// maxDatagram is more than the longest payload of a UDP datagram, in bytes.
const maxDatagram = 64 << 10

// socket is a UDP socket bound to a relayed transport address.
type socket interface {
	// start has the owner get what comes, from now on. It is called once, if at all.
	start(o Owner) error
	// send sends one datagram. It does not wait for room. Safe for concurrent use.
	send(b []byte, to netip.AddrPort) error
	// dontFragment says whether routers may fragment what is sent from now on.
	dontFragment(not bool) error
	localAddr() net.Addr
	// close closes the socket. When it returns, the owner is not called any more.
	close() error
}

// goroutineSocket makes a socket of any Socket, with a goroutine and a buffer of its own.
type goroutineSocket struct {
	Socket
	ipv4   bool
	reader sync.WaitGroup
}

// goroutineSockets returns what opens sockets with listen.
func goroutineSockets(listen func(string, netip.AddrPort) (Socket, error)) func(string, netip.AddrPort) (socket, error) {
	return func(network string, addr netip.AddrPort) (socket, error) {
		s, err := listen(network, addr)
		if err != nil {
			return nil, err
		}
		return &goroutineSocket{Socket: s, ipv4: addr.Addr().Is4()}, nil
	}
}

// listenUDP opens a socket of package net.
func listenUDP(network string, addr netip.AddrPort) (Socket, error) {
	return net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
}

func (s *goroutineSocket) start(o Owner) error {
	s.reader.Go(func() { s.read(o) })
	return nil
}

func (s *goroutineSocket) read(o Owner) {
	buf := make([]byte, maxDatagram)
	for backoff := time.Duration(0); ; {
		n, from, err := s.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Nothing is known that fails again and again here; if something does, it must not take a core.
			backoff = min(backoff*2+time.Millisecond, time.Second)
			time.Sleep(backoff)
			continue
		}
		backoff = 0
		o.Deliver(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), buf[:n], time.Now())
	}
}

func (s *goroutineSocket) send(b []byte, to netip.AddrPort) error {
	_, err := s.WriteToUDPAddrPort(b, to)
	return err
}

func (s *goroutineSocket) dontFragment(not bool) error { return setDontFragment(s.Socket, s.ipv4, not) }

func (s *goroutineSocket) localAddr() net.Addr { return s.LocalAddr() }

func (s *goroutineSocket) close() error {
	err := s.Close()
	s.reader.Wait()
	return err
}
