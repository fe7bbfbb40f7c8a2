package relay

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// polledSocket is a socket that shares its reader, and the reader's buffer, with others: an allocation that nothing comes for
// costs a descriptor and these few bytes. Go's own poller does not know of it.
type polledSocket struct {
	sockets *sockets
	ipv4    bool
	owner   Owner   // set by start
	poller  *poller // nil before start

	mu sync.RWMutex // held, for reading, by whoever uses fd: a closed descriptor may soon be another socket's
	fd int          // -1 when closed
}

// listen opens a socket, udp4 or udp6 as package net has them.
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

// receive reads one datagram, if there is one, and gives it to the owner. The lock is held meanwhile, so that the owner hears
// nothing after close.
func (s *polledSocket) receive(buf []byte) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return nil
	}
	var from unix.RawSockaddrInet6 // the longer one
	length := uint32(unsafe.Sizeof(from))
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)),
		0, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&length)))
	switch {
	case errno == unix.EAGAIN:
		return nil
	case errno != 0:
		return errno
	}
	s.owner.Deliver(addrPort(&from), buf[:n])
	return nil
}

// addrPort returns the address that the system has put down, of whichever family.
func addrPort(sa *unix.RawSockaddrInet6) netip.AddrPort {
	if sa.Family == unix.AF_INET {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), networkOrder(sa4.Port))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), networkOrder(sa.Port))
}

// networkOrder turns a port of the system's into one of ours, and back.
func networkOrder(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}

func (s *polledSocket) send(b []byte, to netip.AddrPort) error {
	var sa unix.RawSockaddrInet6
	length := unsafe.Sizeof(sa)
	if s.ipv4 {
		if !to.Addr().Is4() {
			return unix.EAFNOSUPPORT
		}
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&sa)) = unix.RawSockaddrInet4{
			Family: unix.AF_INET, Port: networkOrder(to.Port()), Addr: to.Addr().As4(),
		}
		length = unsafe.Sizeof(unix.RawSockaddrInet4{})
	} else {
		sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(to.Port()), Addr: to.Addr().As16()}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		0, uintptr(unsafe.Pointer(&sa)), length)
	if errno != 0 {
		return errno
	}
	return nil
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
