package udp

import "net/netip"

// ICMP is an ICMP or ICMPv6 error about a datagram that a socket has sent.
type ICMP struct {
	To         netip.AddrPort // destination of the datagram; its family is that of the error
	Type, Code uint8
	MTU        uint32 // of the next link if the datagram was too long for it, otherwise 0
}
