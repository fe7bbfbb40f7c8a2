package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Socket is a non-blocking UDP socket. It is owned by one goroutine, an event loop, as are the Inbox and the Outbox that it is
// used with: its methods may not be called concurrently. There is one for each relayed address, most of which are idle, so it is small,
// and can be part of what uses it: Listen and Inherit open a zero Socket.
type Socket struct {
	fd       int32       // -1 when closed
	full     atomic.Bool // the Outbox has found the send buffer full
	pending  pending     // of the Outbox
	segments segments
	ipv4     bool
	bound    bool // to a single address, so there is no choice of source addresses
}

// NewSocket returns a Socket that owns fd, a bound UDP socket of either family. It closes fd on failure. If tellLocal is true
// and the socket is bound to all addresses, Inbox.Datagram reports the destination address of each datagram.
func NewSocket(fd int, tellLocal bool) (*Socket, error) {
	s := new(Socket)
	if err := s.init(fd, tellLocal); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Socket) init(fd int, tellLocal bool) error {
	if _, err := s.own(fd); err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	if tellLocal && !s.bound {
		if err := tellLocalAddr(fd, s.ipv4); err != nil {
			return fmt.Errorf("request the destination address of packets: %w", os.NewSyscallError("setsockopt", err))
		}
	}
	return nil
}

// Inherit makes s own fd, which is that of a Socket bound to a single address in another process, and returns this address. It closes fd
// on failure.
func (s *Socket) Inherit(fd int) (netip.AddrPort, error) {
	addr, err := s.own(fd)
	if err != nil {
		return netip.AddrPort{}, errors.Join(err, s.Close())
	}
	return addr, nil
}

// own makes s own fd, even on failure, and returns the address that it is bound to.
func (s *Socket) own(fd int) (addr netip.AddrPort, err error) {
	s.fd = int32(fd)
	if addr, s.ipv4, err = s.name(); err == nil {
		s.bound = !addr.Addr().IsUnspecified()
	}
	return addr, err
}

// name asks the system for the family and the address of the socket.
func (s *Socket) name() (addr netip.AddrPort, ipv4 bool, err error) {
	name, err := unix.Getsockname(s.FD())
	if err != nil {
		return netip.AddrPort{}, false, os.NewSyscallError("getsockname", err)
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port)), true, nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(withScope(netip.AddrFrom16(name.Addr).Unmap(), name.ZoneId), uint16(name.Port)), false, nil
	default:
		return netip.AddrPort{}, false, fmt.Errorf("not an IP socket: %T", name)
	}
}

// Listen opens a socket bound to addr. network is udp4 or udp6, as in package net. A udp6 socket carries no IPv4.
func (s *Socket) Listen(network string, addr netip.AddrPort) error {
	s.fd = -1
	domain := unix.AF_INET6
	if network == "udp4" {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := bind(fd, domain, addr); err != nil {
		_ = unix.Close(fd)
		return os.NewSyscallError("bind", err)
	}
	s.fd, s.ipv4, s.bound = int32(fd), domain == unix.AF_INET, !addr.Addr().IsUnspecified()
	return nil
}

func bind(fd, domain int, addr netip.AddrPort) error {
	if domain == unix.AF_INET {
		if !addr.Addr().Is4() {
			return unix.EAFNOSUPPORT
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()})
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()})
}

// FromConn returns a Socket that replaces conn, which it closes even if it fails. The socket itself remains open under another
// descriptor, so that packets do not wake Go's network poller.
func FromConn(conn *net.UDPConn, tellLocal bool) (*Socket, error) {
	fd, err := duplicate(conn)
	err = errors.Join(err, conn.Close())
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, err
	}
	return NewSocket(fd, tellLocal)
}

func duplicate(conn *net.UDPConn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	err = raw.Control(func(old uintptr) { fd, failed = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		return -1, err
	}
	return fd, os.NewSyscallError("fcntl", failed)
}

// TakeFull reports whether an Outbox has found the send buffer full since the last call. Safe for concurrent use.
func (s *Socket) TakeFull() bool { return s.full.Load() && s.full.Swap(false) }

// FD returns the descriptor, or -1 if the socket is closed.
func (s *Socket) FD() int { return int(s.fd) }

// Cookie returns a number that identifies the socket in all processes (SO_COOKIE, Linux 4.12).
func (s *Socket) Cookie() (uint64, error) {
	cookie, err := unix.GetsockoptUint64(s.FD(), unix.SOL_SOCKET, unix.SO_COOKIE)
	return cookie, os.NewSyscallError("getsockopt", err)
}

// LocalAddr asks the system for the address that the socket is bound to. It returns the zero value if the socket is closed.
func (s *Socket) LocalAddr() netip.AddrPort {
	addr, _, _ := s.name()
	return addr
}

// Close closes the socket. The caller must call Outbox.FlushSocket first: datagrams that remain in an Outbox fail with
// net.ErrClosed at the next flush. Close may be called more than once.
func (s *Socket) Close() error {
	if s.fd < 0 {
		return nil
	}
	fd := s.FD()
	s.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

// SetDontFragment is like DontFragment. It affects all datagrams that an Outbox sends later, so the caller must call
// Outbox.FlushSocket first.
func (s *Socket) SetDontFragment(not bool) error { return DontFragment(s.FD(), s.ipv4, not) }

// DontFragment makes the kernel set the DF bit of datagrams of the socket fd and reject those that exceed the path MTU (EMSGSIZE).
// If not is false, it allows fragmentation.
func DontFragment(fd int, ipv4, not bool) error {
	level, option, value := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT
	if not {
		value = unix.IP_PMTUDISC_DO
	}
	if !ipv4 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER // the values are the same as for IPv4
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, option, value))
}

// SetCoalesce sets whether the kernel delivers datagrams of one sender that arrive together as one, which the Inbox splits again
// (UDP_GRO, Linux 5.0). If it returns an error, the socket receives them one by one. They must not be coalesced while a program in
// the kernel forwards packets of the socket, because it cannot split them.
func (s *Socket) SetCoalesce(on bool) error {
	value := 0
	if on {
		value = 1
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.FD(), unix.IPPROTO_UDP, unix.UDP_GRO, value))
}

// TellClass sets whether Inbox.Class reports the traffic class of the datagrams of the socket.
func (s *Socket) TellClass(on bool) error {
	value := 0
	if on {
		value = 1
	}
	err := unix.SetsockoptInt(s.FD(), unix.IPPROTO_IP, unix.IP_RECVTOS, value) // an IPv6 socket may receive IPv4 too
	if err == nil && !s.ipv4 {
		err = unix.SetsockoptInt(s.FD(), unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, value)
	}
	return os.NewSyscallError("setsockopt", err)
}

// Receive receives up to the given number of messages, at most Batch, into in, and replaces the previous ones. n is the number of
// datagrams, which is higher if the kernel coalesced some: see SetCoalesce. more reports whether others may be available. The error
// is unix.EAGAIN if there are no messages.
func (s *Socket) Receive(in *Inbox, messages int) (n int, more bool, err error) {
	n, err = in.receive(s.FD(), messages)
	if err != nil && err != unix.EAGAIN {
		n, err = in.receive(s.FD(), messages) // the kernel may have kept an earlier error, which is cleared now: see MayBePending
	}
	return n, in.used == messages, err
}
