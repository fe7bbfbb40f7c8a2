package stun

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// ErrAddress is returned for an address attribute with an unknown family, or with a length that does not match its family.
var ErrAddress = errors.New("address attribute has an invalid family or length")

// ParseXORAddress decodes XOR-MAPPED-ADDRESS, XOR-PEER-ADDRESS and XOR-RELAYED-ADDRESS, RFC 8489 section 14.2.
//
// An IPv4-mapped IPv6 address is not unmapped, because the peer policy distinguishes the two forms.
func ParseXORAddress(value []byte, id TransactionID) (netip.AddrPort, error) {
	if len(value) < 4 {
		return netip.AddrPort{}, ErrAddress
	}
	family, pad := Family(value[1]), xorPad(id)
	port := binary.BigEndian.Uint16(value[2:4]) ^ MagicCookie>>16
	switch {
	case family == IPv4 && len(value) == 8:
		var ip [4]byte
		for i := range ip {
			ip[i] = value[4+i] ^ pad[i]
		}
		return netip.AddrPortFrom(netip.AddrFrom4(ip), port), nil
	case family == IPv6 && len(value) == 20:
		var ip [16]byte
		for i := range ip {
			ip[i] = value[4+i] ^ pad[i]
		}
		return netip.AddrPortFrom(netip.AddrFrom16(ip), port), nil
	}
	return netip.AddrPort{}, ErrAddress
}

func appendXORAddress(b []byte, addr netip.AddrPort, id TransactionID) []byte {
	family := IPv6
	if addr.Addr().Is4() {
		family = IPv4
	}
	b = append(b, 0, byte(family))
	b = binary.BigEndian.AppendUint16(b, addr.Port()^MagicCookie>>16)
	pad, start := xorPad(id), len(b)
	if family == IPv4 {
		ip := addr.Addr().As4()
		b = append(b, ip[:]...)
	} else {
		ip := addr.Addr().As16()
		b = append(b, ip[:]...)
	}
	for i := range b[start:] {
		b[start+i] ^= pad[i]
	}
	return b
}

// xorPad returns the mask of an address: the magic cookie followed by the transaction ID.
func xorPad(id TransactionID) (pad [16]byte) {
	binary.BigEndian.PutUint32(pad[:4], MagicCookie)
	copy(pad[4:], id[:])
	return pad
}
