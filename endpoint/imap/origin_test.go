package imap

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

var tcpOrigin = origin{
	client: netip.MustParseAddrPort("10.0.0.5:40000"), // the proxy
	server: netip.MustParseAddrPort("10.0.0.1:993"),
}

const (
	v2IPv4 = "\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x03\xe1" // 192.0.2.7:4711 to 198.51.100.1:993
	v2IPv6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x12\x67\x03\xe1"
)

// TestReadProxyHeader: a header makes the connection one from elsewhere, and may leave the addresses as they are.
func TestReadProxyHeader(t *testing.T) {
	named := origin{client: netip.MustParseAddrPort("127.0.0.1:4711"), server: netip.MustParseAddrPort("198.51.100.1:993"), proxied: true}
	unnamed := origin{client: tcpOrigin.client, server: tcpOrigin.server, proxied: true}
	for header, want := range map[string]origin{
		"PROXY TCP4 127.0.0.1 198.51.100.1 4711 993\r\n": named, "PROXY UNKNOWN\r\n": unnamed,
	} {
		if got, err := tcpOrigin.readProxyHeader(strings.NewReader(header)); err != nil || got != want || got.local() {
			t.Errorf("%q: got %+v, %v, local %v", header, got, err, got.local())
		}
	}
	if got, err := tcpOrigin.readProxyHeader(strings.NewReader("a NOOP\r\n")); !errors.Is(err, listen.ErrNoProxyHeader) || got != tcpOrigin {
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
		var o origin
		if tt.client != "" {
			o = origin{client: netip.MustParseAddrPort(tt.client), server: netip.MustParseAddrPort(tt.server)}
		}
		for how, want := range map[ClientAddress]string{ClientAddressNone: "", ClientAddressProxy: tt.v1, ClientAddressProxy2: tt.v2} {
			got, err := o.proxyHeader(how)
			if err != nil || string(got) != want {
				t.Errorf("%q, %s: got %q and %v, want %q", tt.client, how, got, err, want)
			}
		}
	}
}

// TestProxyHeaderTLS: version 2 says which version of TLS the client uses, and that it has no certificate. Without an address of
// the client there is nothing to add to.
func TestProxyHeaderTLS(t *testing.T) {
	const tlv13, tlv12 = "\x20\x00\x0f\x01\x00\x00\x00\x01\x21\x00\x07TLSv1.3", "\x20\x00\x0f\x01\x00\x00\x00\x01\x21\x00\x07TLSv1.2"
	o := origin{client: netip.MustParseAddrPort("192.0.2.7:4711"), server: netip.MustParseAddrPort("198.51.100.1:993"), tls: tls.VersionTLS13}
	older, unknown := o, origin{tls: tls.VersionTLS13}
	older.tls = tls.VersionTLS12
	for _, tt := range []struct {
		origin origin
		how    ClientAddress
		want   string
	}{
		{o, ClientAddressProxy2, v2(0x21, 0x11, v2IPv4+tlv13)},
		{older, ClientAddressProxy2, v2(0x21, 0x11, v2IPv4+tlv12)},
		{unknown, ClientAddressProxy2, v2(0x20, 0x00, "")},
		{o, ClientAddressProxy, "PROXY TCP4 192.0.2.7 198.51.100.1 4711 993\r\n"},
	} {
		if got, err := tt.origin.proxyHeader(tt.how); err != nil || string(got) != tt.want {
			t.Errorf("%+v, %s: got %q and %v, want %q", tt.origin, tt.how, got, err, tt.want)
		}
	}
}

// FuzzProxyHeader: an origin that is taken from a header is the same when it is told on.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 198.51.100.1 4711 993\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(v2(0x21, 0x21, v2IPv6)))
	f.Add([]byte(v2(0x20, 0x00, "")))
	f.Fuzz(func(t *testing.T, stream []byte) {
		o, err := tcpOrigin.readProxyHeader(bytes.NewReader(stream))
		if err != nil {
			return
		}
		for _, how := range []ClientAddress{ClientAddressProxy, ClientAddressProxy2} {
			header, err := o.proxyHeader(how)
			if err != nil {
				t.Fatalf("%+v cannot be told on by %s: %v", o, how, err)
			}
			again, err := tcpOrigin.readProxyHeader(bytes.NewReader(header))
			if err != nil || again != o {
				t.Fatalf("%+v became %+v, %v by %s\n%s", o, again, err, how, hex.Dump(header))
			}
		}
	})
}
