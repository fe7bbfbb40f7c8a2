package udp

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// systemSocket is a *net.UDPConn that waits and has deadlines as in package net, but sends and receives with the calls of this
// package: see the package comment.
type systemSocket struct {
	*net.UDPConn
	raw     syscall.RawConn
	ipv4    bool
	bound   bool      // to a single address, so the system has no choice
	senders sync.Pool // of *sender

	// Owned by the reader.
	receive    func(fd uintptr) (done bool) // a stored method value, which would otherwise be allocated for each call
	inbox      *Inbox
	next, have int
	err        error // of receive
}

// newSystemSocket returns a PacketSocket for conn. It reports the destination address of packets if conn is bound to all
// addresses.
func newSystemSocket(conn *net.UDPConn) (PacketSocket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	bound := !AddrPortOf(conn.LocalAddr()).Addr().IsUnspecified()
	s := &systemSocket{UDPConn: conn, raw: raw, bound: bound, inbox: NewInbox()}
	s.receive = s.fill
	s.senders.New = func() any { return newSender(s) }
	var failed error
	err = raw.Control(func(fd uintptr) {
		var domain int
		if domain, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); failed != nil {
			return
		}
		s.ipv4 = domain == unix.AF_INET
		if !s.bound {
			failed = TellLocal(int(fd), s.ipv4)
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("request the destination address of packets: %w", err)
	}
	return s, nil
}

func (s *systemSocket) ReadPacket(b []byte) (n int, from netip.AddrPort, local netip.Addr, err error) {
	for s.next == s.have {
		if err := s.raw.Read(s.receive); err != nil {
			return 0, netip.AddrPort{}, netip.Addr{}, err
		}
		if s.err != nil {
			return 0, netip.AddrPort{}, netip.Addr{}, s.err
		}
	}
	data, from, local := s.inbox.Datagram(s.next)
	s.next++
	return copy(b, data), from, local, nil
}

// fill receives packets. It reports false if none are available, so that the caller waits.
func (s *systemSocket) fill(fd uintptr) (done bool) {
	s.next = 0
	s.have, s.err = s.inbox.Receive(int(fd))
	return s.err != unix.EAGAIN
}

func (s *systemSocket) WritePacket(b []byte, to netip.AddrPort, local netip.Addr) error {
	if s.bound {
		local = netip.Addr{}
	}
	w := s.senders.Get().(*sender)
	w.b, w.to, w.local = b, to, local
	err := s.raw.Control(w.send)
	if err == nil {
		err = w.err
	}
	w.b = nil
	s.senders.Put(w)
	return err
}

// sender contains the state of sending one packet. Senders are pooled, because a closure for each packet would cost an
// allocation.
type sender struct {
	b     []byte
	to    netip.AddrPort
	local netip.Addr
	send  func(fd uintptr)
	err   error
}

func newSender(s *systemSocket) *sender {
	w := new(sender)
	w.send = func(fd uintptr) { w.err = Send(int(fd), s.ipv4, w.b, w.to, w.local) }
	return w
}
