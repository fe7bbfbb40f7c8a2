package turnsrv

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"
)

// newWildcardSocket has the system tell where each packet was sent to, ip(7) and ipv6(7). A socket of IPv6 does so for
// IPv4 packets too, whose addresses it maps.
func newWildcardSocket(conn *net.UDPConn) (packetSocket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var domain int
	var failed error
	err = raw.Control(func(fd uintptr) {
		if domain, failed = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_DOMAIN); failed != nil {
			return
		}
		level, option := syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO
		if domain == syscall.AF_INET {
			level, option = syscall.IPPROTO_IP, syscall.IP_PKTINFO
		}
		failed = syscall.SetsockoptInt(int(fd), level, option, 1)
	})
	if err == nil {
		err = failed
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("learn the local addresses of packets: %w", err)
	case domain == syscall.AF_INET:
		return &wildcardSocket4{UDPConn: conn}, nil
	default:
		return &wildcardSocket6{UDPConn: conn}, nil
	}
}

// control4 is the one control message that comes and goes with a packet of an IPv4 socket, with the padding that Go gives
// it and that CMSG_SPACE wants.
type control4 struct {
	header syscall.Cmsghdr
	info   syscall.Inet4Pktinfo
}

const control4Len = unsafe.Offsetof(control4{}.info) + syscall.SizeofInet4Pktinfo

func (c *control4) bytes() []byte { return unsafe.Slice((*byte)(unsafe.Pointer(c)), unsafe.Sizeof(*c)) }

// wildcardSocket4 is a socket of IPv4 on all addresses.
type wildcardSocket4 struct {
	*net.UDPConn
	received control4 // scratch of the reader
}

func (s *wildcardSocket4) readPacket(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	c := &s.received
	n, length, _, from, err := s.ReadMsgUDPAddrPort(b, c.bytes())
	if err != nil || length < int(control4Len) || c.header.Level != syscall.IPPROTO_IP || c.header.Type != syscall.IP_PKTINFO {
		return n, from, netip.Addr{}, err
	}
	return n, from, netip.AddrFrom4(c.info.Spec_dst), nil
}

func (s *wildcardSocket4) writePacket(b []byte, to netip.AddrPort, local netip.Addr) error {
	if !local.Is4() || local.IsUnspecified() {
		_, err := s.WriteToUDPAddrPort(b, to)
		return err
	}
	// The interface is left to the routes: a packet need not leave by the one that its answer came in by.
	var c control4
	c.header.Level, c.header.Type = syscall.IPPROTO_IP, syscall.IP_PKTINFO
	c.header.SetLen(int(control4Len))
	c.info.Spec_dst = local.As4()
	_, _, err := s.WriteMsgUDPAddrPort(b, c.bytes(), to)
	return err
}

// control6 is control4 for IPv6.
type control6 struct {
	header syscall.Cmsghdr
	info   syscall.Inet6Pktinfo
}

const control6Len = unsafe.Offsetof(control6{}.info) + syscall.SizeofInet6Pktinfo

func (c *control6) bytes() []byte { return unsafe.Slice((*byte)(unsafe.Pointer(c)), unsafe.Sizeof(*c)) }

// wildcardSocket6 is a socket of IPv6 on all addresses, those of IPv4 included unless it is IPV6_V6ONLY.
type wildcardSocket6 struct {
	*net.UDPConn
	received control6 // scratch of the reader
}

func (s *wildcardSocket6) readPacket(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	c := &s.received
	n, length, _, from, err := s.ReadMsgUDPAddrPort(b, c.bytes())
	if err != nil || length < int(control6Len) || c.header.Level != syscall.IPPROTO_IPV6 || c.header.Type != syscall.IPV6_PKTINFO {
		return n, from, netip.Addr{}, err
	}
	return n, from, netip.AddrFrom16(c.info.Addr).Unmap(), nil
}

func (s *wildcardSocket6) writePacket(b []byte, to netip.AddrPort, local netip.Addr) error {
	if local.IsUnspecified() {
		_, err := s.WriteToUDPAddrPort(b, to)
		return err
	}
	// A link-local address needs its interface, which is in the zone of the client's address.
	var c control6
	c.header.Level, c.header.Type = syscall.IPPROTO_IPV6, syscall.IPV6_PKTINFO
	c.header.SetLen(int(control6Len))
	c.info.Addr = local.As16()
	_, _, err := s.WriteMsgUDPAddrPort(b, c.bytes(), to)
	return err
}
