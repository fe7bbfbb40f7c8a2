package relay

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// polledSocket is a socket that shares its reader and the reader's inbox with others, so that an idle allocation costs only a
// descriptor and a few bytes. It is not registered with Go's network poller.
type polledSocket struct {
	sockets *sockets
	ipv4    bool
	owner   Owner   // set by start
	poller  *poller // nil before start

	mu sync.RWMutex // held for reading while fd is in use: a closed descriptor may soon be reused for another socket
	fd int          // -1 when closed
}

// listen opens a socket. network is udp4 or udp6, as in package net.
func (s *sockets) listen(network string, addr netip.AddrPort) (socket, error) {
	domain := unix.AF_INET6
	ipv4 := network == "udp4"
	if ipv4 {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := bind(fd, ipv4, addr); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &polledSocket{sockets: s, ipv4: ipv4, fd: fd}, nil
}

func bind(fd int, ipv4 bool, addr netip.AddrPort) error {
	if ipv4 {
		return unix.Bind(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()})
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()})
}

func (s *polledSocket) start(o Owner) error {
	p, err := s.sockets.poller()
	if err != nil {
		return err
	}
	s.owner, s.poller = o, p
	return p.add(s)
}

// receive delivers up to one batch of datagrams to the owner and reports whether more may be available. It holds the lock, so
// that the owner receives nothing after close.
func (s *polledSocket) receive(inbox *udp.Inbox) (more bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return false, nil
	}
	n, err := inbox.Receive(s.fd)
	if err == unix.EAGAIN {
		return false, nil
	}
	now := time.Now()
	for i := range n {
		data, from, _ := inbox.Datagram(i)
		s.owner.Deliver(from, data, now)
	}
	return n == udp.Batch || err != nil, err
}

func (s *polledSocket) send(b []byte, to netip.AddrPort) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	return udp.Send(s.fd, s.ipv4, b, to, netip.Addr{})
}

func (s *polledSocket) dontFragment(not bool) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	return setPathMTUDiscovery(s.fd, s.ipv4, not)
}

func (s *polledSocket) localAddr() net.Addr {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return &net.UDPAddr{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.UDPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		return &net.UDPAddr{IP: sa.Addr[:], Port: sa.Port}
	}
	return &net.UDPAddr{}
}

func (s *polledSocket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil
	}
	if s.poller != nil {
		s.poller.remove(s.fd)
	}
	fd := s.fd
	s.fd = -1
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close relay socket: %w", err)
	}
	return nil
}
