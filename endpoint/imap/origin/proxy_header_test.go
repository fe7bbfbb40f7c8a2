package origin

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/framework/listen"
)

// v2 is a version 2 header: command and family, addresses and extensions.
func v2(command, family byte, body string) string {
	return "\r\n\r\n\x00\r\nQUIT\n" + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

var tcpOrigin = Origin{
	Client: netip.MustParseAddrPort("10.0.0.5:40000"), // the proxy
	Server: netip.MustParseAddrPort("10.0.0.1:993"),
}

const (
	v2IPv4 = "\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x03\xe1" // 192.0.2.7:4711 to 198.51.100.1:993
	v2IPv6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x12\x67\x03\xe1"
)

// TestReadProxyHeader checks that a connection with a header is never local, and that a header may leave the addresses unchanged.
func TestReadProxyHeader(t *testing.T) {
	named := Origin{Client: netip.MustParseAddrPort("127.0.0.1:4711"), Server: netip.MustParseAddrPort("198.51.100.1:993"), Proxied: true}
	unnamed := Origin{Client: tcpOrigin.Client, Server: tcpOrigin.Server, Proxied: true}
	for header, want := range map[string]Origin{
		"PROXY TCP4 127.0.0.1 198.51.100.1 4711 993\r\n": named, "PROXY UNKNOWN\r\n": unnamed,
	} {
		if got, err := tcpOrigin.ReadProxyHeader(strings.NewReader(header)); err != nil || got != want || got.Local() {
			t.Errorf("%q: got %+v, %v, local %v", header, got, err, got.Local())
		}
	}
	if got, err := tcpOrigin.ReadProxyHeader(strings.NewReader("a NOOP\r\n")); !errors.Is(err, listen.ErrNoProxyHeader) || got != tcpOrigin {
		t.Errorf("IMAP instead of a header: got %+v, %v", got, err)
	}
}

func TestProxyHeader(t *testing.T) {
	for _, tt := range []struct {
		client, server string // empty: unknown
		v1, v2         string
	}{
		{"192.0.2.7:4711", "198.51.100.1:993", "PROXY TCP4 192.0.2.7 198.51.100.1 4711 993\r\n", v2(0x21, 0x11, v2IPv4)},
		{"[2001:db8::7]:4711", "[2001:db8::1]:993", "PROXY TCP6 2001:db8::7 2001:db8::1 4711 993\r\n", v2(0x21, 0x21, v2IPv6)},
		{"", "", "PROXY UNKNOWN\r\n", v2(0x20, 0x00, "")},
	} {
		var o Origin
		if tt.client != "" {
			o = Origin{Client: netip.MustParseAddrPort(tt.client), Server: netip.MustParseAddrPort(tt.server)}
		}
		for version, want := range map[byte]string{1: tt.v1, 2: tt.v2} {
			got, err := o.ProxyHeader(version)
			if err != nil || string(got) != want {
				t.Errorf("%q, version %d: got %q and %v, want %q", tt.client, version, got, err, want)
			}
		}
	}
}

// TestProxyHeaderTLS checks that version 2 says which version of TLS the client uses, and that it has no certificate. Without an
// address of the client the header does not say that.
func TestProxyHeaderTLS(t *testing.T) {
	const tlv13, tlv12 = "\x20\x00\x0f\x01\x00\x00\x00\x01\x21\x00\x07TLSv1.3", "\x20\x00\x0f\x01\x00\x00\x00\x01\x21\x00\x07TLSv1.2"
	o := Origin{Client: netip.MustParseAddrPort("192.0.2.7:4711"), Server: netip.MustParseAddrPort("198.51.100.1:993"), TLS: tls.VersionTLS13}
	older, unknown := o, Origin{TLS: tls.VersionTLS13}
	older.TLS = tls.VersionTLS12
	for _, tt := range []struct {
		origin  Origin
		version byte
		want    string
	}{
		{o, 2, v2(0x21, 0x11, v2IPv4+tlv13)},
		{older, 2, v2(0x21, 0x11, v2IPv4+tlv12)},
		{unknown, 2, v2(0x20, 0x00, "")},
		{o, 1, "PROXY TCP4 192.0.2.7 198.51.100.1 4711 993\r\n"},
	} {
		if got, err := tt.origin.ProxyHeader(tt.version); err != nil || string(got) != tt.want {
			t.Errorf("%+v, version %d: got %q and %v, want %q", tt.origin, tt.version, got, err, tt.want)
		}
	}
}

// FuzzProxyHeader checks that an origin read from a header does not change when it is written to another header.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 198.51.100.1 4711 993\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(v2(0x21, 0x21, v2IPv6)))
	f.Add([]byte(v2(0x20, 0x00, "")))
	f.Fuzz(func(t *testing.T, stream []byte) {
		o, err := tcpOrigin.ReadProxyHeader(bytes.NewReader(stream))
		if err != nil {
			return
		}
		for _, version := range []byte{1, 2} {
			header, err := o.ProxyHeader(version)
			if err != nil {
				t.Fatalf("%+v in version %d: %v", o, version, err)
			}
			again, err := tcpOrigin.ReadProxyHeader(bytes.NewReader(header))
			if err != nil || again != o {
				t.Fatalf("%+v became %+v, %v by version %d\n%s", o, again, err, version, hex.Dump(header))
			}
		}
	})
}
