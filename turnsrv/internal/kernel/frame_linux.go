//go:build amd64 || arm64

package kernel

import (
	"encoding/binary"
	"net/netip"
)

// frame is an Ethernet frame with a UDP datagram.
type frame struct {
	from, to netip.AddrPort
	payload  []byte
	hops     byte
	class    byte   // DSCP and ECN
	trailer  []byte // after the IP packet
	fragment uint16 // IPv4: flags and offset
	station  byte   // last byte of the destination's MAC address
}

const (
	dontFragment  = 0x4000
	moreFragments = 0x2000
)

// checksum returns the checksum of RFC 1071 over b.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i, c := range b {
		sum += uint32(c) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// udp returns the datagram with its checksum.
func (f frame) udp() []byte {
	b := binary.BigEndian.AppendUint16(nil, f.from.Port())
	b = binary.BigEndian.AppendUint16(b, f.to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(f.payload)))
	b = append(append(b, 0, 0), f.payload...)
	if sum := checksum(append(f.pseudoHeader(len(b)), b...)); sum != 0 {
		binary.BigEndian.PutUint16(b[6:], sum)
	} else {
		binary.BigEndian.PutUint16(b[6:], 0xffff)
	}
	return b
}

func (f frame) pseudoHeader(length int) []byte {
	b := append(f.from.Addr().AsSlice(), f.to.Addr().AsSlice()...)
	return append(b, 0, 17, byte(length>>8), byte(length))
}

// bytes returns the frame as it is on the wire.
func (f frame) bytes() []byte {
	b := make([]byte, 12, 2048)
	b[5] = f.station
	udp := f.udp()
	if f.from.Addr().Is4() {
		b = append(b, 8, 0)
		header := []byte{0x45, f.class, byte((20 + len(udp)) >> 8), byte(20 + len(udp)), 0x12, 0x34, byte(f.fragment >> 8), byte(f.fragment), f.hops, 17, 0, 0}
		header = append(append(header, f.from.Addr().AsSlice()...), f.to.Addr().AsSlice()...)
		binary.BigEndian.PutUint16(header[10:], checksum(header))
		b = append(b, header...)
	} else {
		b = append(b, 0x86, 0xdd)
		b = append(b, 0x60|f.class>>4, f.class<<4, 0, 0, byte(len(udp)>>8), byte(len(udp)), 17, f.hops)
		b = append(append(b, f.from.Addr().AsSlice()...), f.to.Addr().AsSlice()...)
	}
	return append(append(b, udp...), f.trailer...)
}

// channelData returns ChannelData, RFC 8656 section 12.4.
func channelData(number uint16, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, number)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}
