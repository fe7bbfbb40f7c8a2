// Package origin describes where a client's connection comes from, how a proxy reports it, and how a mail server is told.
package origin

import (
	"net"
	"net/netip"
)

// An Origin is where a client's connection comes from: its two ends as TCP has them, or as the PROXY header of a trusted proxy
// says. It is comparable.
type Origin struct {
	Client, Server netip.AddrPort // not valid where unknown
	TLS            uint16         // version of TLS between the client and mailturn, such as tls.VersionTLS13; 0 without TLS
	Proxied        bool           // there was a PROXY header
}

// Of returns the origin of a connection without a PROXY header.
func Of(conn net.Conn) Origin {
	return Origin{Client: addrPort(conn.RemoteAddr()), Server: addrPort(conn.LocalAddr())}
}

// addrPort returns the address of a TCP peer, unmapped, because dual-stack sockets have IPv4-mapped addresses.
func addrPort(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// Local reports whether the client is on this machine. A header cannot claim that: clients of a proxy count as remote.
func (o Origin) Local() bool { return !o.Proxied && o.Client.Addr().IsLoopback() }
