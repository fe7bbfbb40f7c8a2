package event

import "net/netip"

// Transport is what a client speaks to the server over.
type Transport uint8

// Transports between client and server, RFC 8656 section 3.1.
const (
	UDP Transport = iota
	TCP
	TLS
	DTLS
	NumTransports // how many there are
)

// String returns the transport's usual name.
func (t Transport) String() string {
	switch t {
	case UDP:
		return "UDP"
	case TCP:
		return "TCP"
	case TLS:
		return "TLS"
	case DTLS:
		return "DTLS"
	}
	return "transport"
}

// FiveTuple is the client's and the server's transport address and the transport between them, RFC 8656 section 2. It is
// comparable. Server is the address that the client sends to, not the wildcard that a socket may be bound to; it is
// unspecified only on systems that do not tell.
type FiveTuple struct {
	Client    netip.AddrPort
	Server    netip.AddrPort
	Transport Transport
}
