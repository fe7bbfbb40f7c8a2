package turntest

import (
	"encoding/binary"
	"net/netip"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// PublicPeer is a peer address that the default policy allows.
var PublicPeer = netip.MustParseAddrPort("1.1.1.1:40000")

// Attributes without parameters.
var (
	TransportUDP = Attr32(stun.AttrRequestedTransport, 17<<24)
	Additional   = Attr(stun.AttrAdditionalAddressFamily, byte(stun.IPv6), 0, 0, 0)
)

// Set adds an attribute to a message.
type Set func(b *stun.Builder)

// Attr returns an attribute with the given value.
func Attr(t stun.AttrType, value ...byte) Set {
	return func(b *stun.Builder) { b.Attr(t, value) }
}

// Attr32 returns an attribute with a value of four bytes.
func Attr32(t stun.AttrType, value uint32) Set {
	return func(b *stun.Builder) { b.Uint32(t, value) }
}

// Lifetime returns LIFETIME, in seconds.
func Lifetime(s uint32) Set { return Attr32(stun.AttrLifetime, s) }

// PeerAddr returns XOR-PEER-ADDRESS.
func PeerAddr(addr netip.AddrPort) Set {
	return func(b *stun.Builder) { b.XORAddress(stun.AttrXORPeerAddress, addr) }
}

// Channel returns CHANNEL-NUMBER.
func Channel(number uint16) Set {
	return Attr32(stun.AttrChannelNumber, uint32(number)<<16)
}

// ChannelData returns a ChannelData message with padding.
func ChannelData(number uint16, data string) []byte {
	b := binary.BigEndian.AppendUint16(nil, number)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
