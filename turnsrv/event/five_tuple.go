package event

import "net/netip"

// Transport is the transport protocol between client and server.
type Transport uint8

// Transports between client and server, RFC 8656 section 3.1.
const (
	UDP Transport = iota
	TCP
	TLS
	DTLS
	NumTransports // number of transports
)

// Encrypted reports whether the transport is encrypted.
func (t Transport) Encrypted() bool { return t == TLS || t == DTLS }

// String returns the usual name of the transport.
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

// FiveTuple consists of the client's and the server's transport address and the transport between them, RFC 8656 section 2. It
// is comparable. Server is the destination address of the client's packets, even if the socket is bound to all addresses. It is
// unspecified only on systems that do not report the destination.
type FiveTuple struct {
	Client    netip.AddrPort
	Server    netip.AddrPort
	Transport Transport
}
