package turntest

import (
	"encoding/binary"
	"net/netip"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

var (
	Lifetime   = func(s uint32) Set { return Attr32(stun.AttrLifetime, s) }
	PublicPeer = netip.MustParseAddrPort("1.1.1.1:40000")
)

var Additional = Attr(stun.AttrAdditionalAddressFamily, byte(stun.IPv6), 0, 0, 0)

// Set adds attributes to a message.
type Set func(b *stun.Builder)

func Attr(t stun.AttrType, value ...byte) Set {
	return func(b *stun.Builder) { b.Attr(t, value) }
}

func Attr32(t stun.AttrType, value uint32) Set {
	return func(b *stun.Builder) { b.Uint32(t, value) }
}

func PeerAddr(addr netip.AddrPort) Set {
	return func(b *stun.Builder) { b.XORAddress(stun.AttrXORPeerAddress, addr) }
}

func Channel(number uint16) Set {
	return Attr32(stun.AttrChannelNumber, uint32(number)<<16)
}

var TransportUDP = Attr32(stun.AttrRequestedTransport, 17<<24)

// ChannelData builds ChannelData, padded.
func ChannelData(number uint16, data string) []byte {
	b := binary.BigEndian.AppendUint16(nil, number)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
