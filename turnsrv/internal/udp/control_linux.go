package udp

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control is a buffer for the control messages of a datagram, cmsg(3): its address on this machine, ip(7) and ipv6(7), and the
// length of the segments that it consists of, udp(7).
type control struct {
	_ [0]unix.Cmsghdr // for its alignment
	b [controlLen]byte
}

// controlLen is enough for the longer form of each control message: struct in6_pktinfo, and a segment length, which is a uint16
// when sent and an int when received.
const controlLen = 40 + 24

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
// Addr if it is not reported. segment is 0, or the length of the datagrams that the payload consists of; the last may be shorter.
func (c *control) parse(length int) (local netip.Addr, segment int) {
	b := c.b[:min(length, controlLen)]
	for len(b) >= unix.SizeofCmsghdr {
		header, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			break
		}
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			local = netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Spec_dst)
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			local = netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Addr).Unmap()
		case header.Level == unix.IPPROTO_UDP && header.Type == unix.UDP_GRO && len(data) >= 4:
			segment = max(0, int(*(*int32)(unsafe.Pointer(&data[0]))))
		}
		b = rest
	}
	return local, segment
}
