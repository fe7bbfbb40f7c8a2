package relay

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Socket is the part of a UDP socket that the package requires of sockets opened by Config.Listen. *net.UDPConn implements it.
type Socket interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// maxDatagram exceeds the longest payload of a UDP datagram, in bytes.
const maxDatagram = 64 << 10

// socket is a UDP socket bound to a relayed transport address.
type socket interface {
	// start starts receiving for c. It is called at most once.
	start(c *Conn) error
	// send sends one datagram. It does not block. The result is reported to owner, at once or later.
	send(b []byte, to netip.AddrPort, owner Owner)
	// dontFragment determines whether routers may fragment packets sent from now on.
	dontFragment(not bool) error
	// descriptor returns the descriptor of a socket on an event loop. It remains the socket's.
	descriptor() (fd int, ok bool)
	// close closes the socket. After it returns, the owner is not called any more.
	close() error
}

// goroutineSocket implements socket with any Socket, and with a goroutine and a buffer of its own.
type goroutineSocket struct {
	Socket
	ipv4   bool
	owner  Owner // set by start
	reader sync.WaitGroup
}

// goroutineSockets returns a function that opens goroutineSockets with listen.
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

func (s *goroutineSocket) start(c *Conn) error {
	s.owner = c.owner
	if err := keepErrors(s.Socket, s.ipv4); err != nil {
		return err
	}
	s.reader.Go(s.read)
	return nil
}

func (s *goroutineSocket) read() {
	buf := make([]byte, maxDatagram)
	for backoff := time.Duration(0); ; {
		n, from, err := s.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if mayBePending(err) && s.passErrors() > 0 {
			continue
		}
		if err != nil {
			// No other error is known to recur here. Pause anyway, so that one would not occupy a whole processor.
			backoff = min(backoff*2+time.Millisecond, time.Second)
			time.Sleep(backoff)
			continue
		}
		backoff = 0
		s.owner.Deliver(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), buf[:n], time.Now())
	}
}

func (s *goroutineSocket) send(b []byte, to netip.AddrPort, owner Owner) {
	_, err := s.WriteToUDPAddrPort(b, to)
	if mayBePending(err) {
		s.passErrors()
		_, err = s.WriteToUDPAddrPort(b, to)
	}
	owner.Sent(len(b), err)
}

func (s *goroutineSocket) dontFragment(not bool) error { return setDontFragment(s.Socket, s.ipv4, not) }

func (s *goroutineSocket) descriptor() (fd int, ok bool) { return -1, false }

func (s *goroutineSocket) close() error {
	err := s.Close()
	s.reader.Wait()
	return err
}
