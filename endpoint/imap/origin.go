package imap

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/mailturn/mailturn/framework/listen"
)

// An origin is where a client's connection comes from: its two ends as TCP has them, or as the PROXY header of a trusted
// proxy says.
type origin struct {
	client, server netip.AddrPort
	proxied        bool   // there was a PROXY header
	tls            uint16 // version of TLS between the client and mailturn, such as tls.VersionTLS13; 0 without TLS
}

// originOf is the origin of a connection without a header.
func originOf(conn net.Conn) origin {
	return origin{client: addrPort(conn.RemoteAddr()), server: addrPort(conn.LocalAddr())}
}

// addrPort is the address of a TCP peer; IPv4 addresses are in their own form on dual-stack sockets too.
func addrPort(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// local reports whether the client is on this machine. A header cannot say so: who has come through a proxy has come from
// elsewhere.
func (o origin) local() bool { return !o.proxied && o.client.Addr().IsLoopback() }

// proxyHeader returns the PROXY header that tells the origin to a server; nil if none is wanted. Version 2 says whether the
// client uses TLS, which version 1 cannot.
func (o origin) proxyHeader(how ClientAddress) ([]byte, error) {
	var version byte
	switch how {
	case ClientAddressProxy:
		version = 1
	case ClientAddressProxy2:
		version = 2
	default:
		return nil, nil
	}
	header := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(o.client), net.TCPAddrFromAddrPort(o.server))
	if version == 2 && o.tls != 0 && !header.Command.IsLocal() {
		extension, err := sslTLV(o.tls)
		if err != nil {
			return nil, err
		}
		if err := header.SetTLVs([]proxyproto.TLV{extension}); err != nil {
			return nil, err
		}
	}
	b, err := header.Format()
	if err != nil {
		return nil, fmt.Errorf("PROXY header for %v: %w", o.client, err)
	}
	return b, nil
}

// sslTLV says that the client uses TLS of this version (PROXY protocol section 2.2.6). Verify would be 0 if the client had
// proved who it is by a certificate.
func sslTLV(version uint16) (proxyproto.TLV, error) {
	name := "TLSv1.2"
	if version == tls.VersionTLS13 {
		name = "TLSv1.3"
	}
	return tlvparse.PP2SSL{
		Client: tlvparse.PP2_BITFIELD_CLIENT_SSL,
		Verify: 1,
		TLV:    []proxyproto.TLV{{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte(name)}},
	}.Marshal()
}

// readProxyHeader reads a PROXY header from r, and returns the origin that it says. One that says none leaves the addresses of o.
func (o origin) readProxyHeader(r io.Reader) (origin, error) {
	header, err := listen.ReadProxyHeader(r)
	if err != nil {
		return o, err
	}
	o.proxied = true
	if header.Client.IsValid() {
		o.client, o.server = header.Client, header.Server
	}
	return o, nil
}
