package udp

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control is a buffer for the control messages of a datagram, cmsg(3): its address on this machine and its traffic class, ip(7) and
// ipv6(7), and the length of the segments that it consists of, udp(7).
type control struct {
	_ [0]unix.Cmsghdr // for its alignment
	b [controlLen]byte
}

// controlLen is enough for the longer form of each control message: struct in6_pktinfo, an int for the traffic class, and a segment
// length, which is a uint16 when sent and an int when received.
const controlLen = 40 + 24 + 24

// header returns the header at the given offset.
func (c *control) header(offset int) *unix.Cmsghdr {
	return (*unix.Cmsghdr)(unsafe.Pointer(&c.b[offset]))
}

// controlData returns the payload, of type T, of the control message at the given offset.
func controlData[T any](c *control, offset int) *T {
	return (*T)(unsafe.Pointer(&c.b[offset+unix.CmsgLen(0)]))
}

// putLocal writes the control message that sets the source address to local, and returns its length with padding. It leaves the
// choice of interface to the routing table, because a response need not leave by the interface on which the request arrived. A
// link-local address requires its interface, which is the zone of the destination address.
func (c *control) putLocal(ipv4 bool, local netip.Addr) (length int) {
	h := c.header(0)
	if ipv4 {
		h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
		h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		*controlData[unix.Inet4Pktinfo](c, 0) = unix.Inet4Pktinfo{Spec_dst: local.As4()}
		return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
	}
	h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	*controlData[unix.Inet6Pktinfo](c, 0) = unix.Inet6Pktinfo{Addr: local.As16()}
	return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
}

// putClass adds the control message that sets the traffic class (DSCP and ECN) of a datagram to an IPv4 or IPv6 address, after others
// of the given total length, and returns the total length.
func (c *control) putClass(offset int, ipv4 bool, class byte) (length int) {
	h := c.header(offset)
	h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	if ipv4 {
		h.Level, h.Type = unix.IPPROTO_IP, unix.IP_TOS
	}
	h.SetLen(unix.CmsgLen(4))
	*controlData[int32](c, offset) = int32(class)
	return offset + unix.CmsgSpace(4)
}

// putSegment adds the control message that splits a payload into datagrams of the given length, after others of the given total
// length, and returns the total length.
func (c *control) putSegment(offset, segment int) (length int) {
	h := c.header(offset)
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	*controlData[uint16](c, offset) = uint16(segment)
	return offset + unix.CmsgSpace(2)
}

// parse reads received control messages of the given total length. local is the destination address of the datagram, or the zero
// Addr if it is not reported, and class its traffic class. segment is 0, or the length of the datagrams that the payload consists of;
// the last may be shorter.
func (c *control) parse(length int) (local netip.Addr, class byte, segment int) {
	length = min(length, controlLen)
	for offset := 0; offset+unix.SizeofCmsghdr <= length; {
		h := c.header(offset)
		size := int(h.Len)
		if size < unix.CmsgLen(0) || size > length-offset {
			break
		}
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && size >= unix.CmsgLen(1):
			class = *controlData[byte](c, offset)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && size >= unix.CmsgLen(4):
			class = byte(*controlData[int32](c, offset))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && size >= unix.CmsgLen(unix.SizeofInet4Pktinfo):
			local = netip.AddrFrom4(controlData[unix.Inet4Pktinfo](c, offset).Spec_dst)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && size >= unix.CmsgLen(unix.SizeofInet6Pktinfo):
			local = netip.AddrFrom16(controlData[unix.Inet6Pktinfo](c, offset).Addr).Unmap()
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && size >= unix.CmsgLen(4):
			segment = max(0, int(*controlData[int32](c, offset)))
		}
		offset += (size + unix.SizeofPtr - 1) &^ (unix.SizeofPtr - 1)
	}
	return local, class, segment
}
