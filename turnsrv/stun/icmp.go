package stun

import "encoding/binary"

// ICMP is the value of an ICMP attribute, RFC 8656 section 18.13. Type and Code are those of ICMPv4 or ICMPv6, depending on the family of
// the peer's address. Data is the MTU of the next link if the packet was too long for it, and 0 otherwise.
type ICMP struct {
	Type, Code uint8
	Data       uint32
}

// ICMP adds ICMP.
func (b *Builder) ICMP(e ICMP) {
	start := b.open(AttrICMP)
	b.buf = append(b.buf, 0, 0)
	b.buf = binary.BigEndian.AppendUint16(b.buf, uint16(e.Type)<<9|uint16(e.Code)) // 7 and 9 bits
	b.buf = binary.BigEndian.AppendUint32(b.buf, e.Data)
	b.close(start)
}
