package udp

import (
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// addrPort returns the address in sa, which may be of either family.
func addrPort(sa *unix.RawSockaddrInet6) netip.AddrPort {
	if sa.Family == unix.AF_INET {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), networkOrder(sa4.Port))
	}
	return netip.AddrPortFrom(withScope(netip.AddrFrom16(sa.Addr).Unmap(), sa.Scope_id), networkOrder(sa.Port))
}

// withScope returns addr with the interface index id as its zone. Only link-local addresses have one.
func withScope(addr netip.Addr, id uint32) netip.Addr {
	if id == 0 {
		return addr
	}
	return addr.WithZone(strconv.FormatUint(uint64(id), 10))
}

// putAddrPort writes an address in the form that an IPv4 or IPv6 socket requires, and returns its length.
func putAddrPort(sa *unix.RawSockaddrInet6, ipv4 bool, to netip.AddrPort) (length uintptr, err error) {
	if !ipv4 {
		*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(to.Port()), Addr: to.Addr().As16()}
		if zone := to.Addr().Zone(); zone != "" {
			scope, err := strconv.ParseUint(zone, 10, 32)
			if err != nil {
				return 0, unix.EINVAL
			}
			sa.Scope_id = uint32(scope)
		}
		return unsafe.Sizeof(*sa), nil
	}
	if !to.Addr().Is4() {
		return 0, unix.EAFNOSUPPORT
	}
	sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
	*sa4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(to.Port()), Addr: to.Addr().As4()}
	return unsafe.Sizeof(*sa4), nil
}

// networkOrder converts a port between network and host byte order.
func networkOrder(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// tellLocalAddr enables the control message with the destination address of each datagram, ip(7) and ipv6(7). An IPv6 socket also
// reports it for IPv4 datagrams, as an IPv4-mapped address.
func tellLocalAddr(fd int, ipv4 bool) error {
	if ipv4 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
}
