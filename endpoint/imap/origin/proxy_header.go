package origin

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/mailturn/mailturn/framework/listen"
)

// ReadProxyHeader reads a header of the PROXY protocol, version 1 or 2, from r, and returns the origin that it names. A header
// without addresses, as in a health check, leaves those of o. The error is listen.ErrNoProxyHeader for anything but a header.
func (o Origin) ReadProxyHeader(r io.Reader) (Origin, error) {
	header, err := listen.ReadProxyHeader(r)
	if err != nil {
		return o, err
	}
	o.Proxied = true
	if header.Client.IsValid() {
		o.Client, o.Server = header.Client, header.Server
	}
	return o, nil
}

// ProxyHeader returns the header of the PROXY protocol, in version 1 or 2, that tells a server the origin. Version 2 says whether
// the client uses TLS, which version 1 cannot.
func (o Origin) ProxyHeader(version byte) ([]byte, error) {
	header := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(o.Client), net.TCPAddrFromAddrPort(o.Server))
	if version == 2 && o.TLS != 0 && !header.Command.IsLocal() {
		extension, err := sslTLV(o.TLS)
		if err != nil {
			return nil, err
		}
		if err := header.SetTLVs([]proxyproto.TLV{extension}); err != nil {
			return nil, err
		}
	}
	b, err := header.Format()
	if err != nil {
		return nil, fmt.Errorf("PROXY header for %v: %w", o.Client, err)
	}
	return b, nil
}

// sslTLV returns the extension which says that the client uses this version of TLS (PROXY protocol section 2.2.6). Verify would be
// 0 if the client had a valid certificate.
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
