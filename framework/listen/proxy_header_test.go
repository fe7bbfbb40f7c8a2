package listen

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// v2 is a version 2 header: command and family, addresses and extensions.
func v2(command, family byte, body string) string {
	return "\r\n\r\n\x00\r\nQUIT\n" + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

const (
	v2IPv4 = "\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x03\xe1" // 192.0.2.7:4711 to 198.51.100.1:993
	v2IPv6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x12\x67\x03\xe1"
	// v2Mapped is v2IPv4 as IPv4-mapped IPv6 addresses.
	v2Mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x07" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc6\x33\x64\x01" + "\x12\x67\x03\xe1"
)

// proxyHeaders are the examples of haproxy's doc/proxy-protocol.txt, and malformed ones. An empty client is an error.
var proxyHeaders = []struct {
	name, header   string
	client, server string
}{
	{"version 1", "PROXY TCP4 192.0.2.7 198.51.100.1 4711 993\r\n", "192.0.2.7:4711", "198.51.100.1:993"},
	{"version 1, shortest", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "1.1.1.1:1", "1.1.1.1:1"},
	{"version 1, IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 4711 993\r\n", "[2001:db8::7]:4711", "[2001:db8::1]:993"},
	{"version 1, longest", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
	{"version 1, mapped", "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4711 993\r\n", "192.0.2.7:4711", "198.51.100.1:993"},
	{"version 1, unknown", "PROXY UNKNOWN\r\n", "none", ""},
	{"version 1, unknown with addresses", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "none", ""},
	{"version 1, loopback", "PROXY TCP4 127.0.0.1 127.0.0.1 4711 993\r\n", "127.0.0.1:4711", "127.0.0.1:993"},
	{"version 2", v2(0x21, 0x11, v2IPv4), "192.0.2.7:4711", "198.51.100.1:993"},
	{"version 2, IPv6", v2(0x21, 0x21, v2IPv6), "[2001:db8::7]:4711", "[2001:db8::1]:993"},
	{"version 2, mapped", v2(0x21, 0x21, v2Mapped), "192.0.2.7:4711", "198.51.100.1:993"},
	{"version 2 with extensions", v2(0x21, 0x11, v2IPv4+"\x03\x00\x04abcd"), "192.0.2.7:4711", "198.51.100.1:993"},
	{"version 2 with 4 KiB", v2(0x21, 0x11, v2IPv4+"\x04\x0f\xf1"+strings.Repeat("x", 4096-15)), "192.0.2.7:4711", "198.51.100.1:993"},
	{"version 2, local", v2(0x20, 0x00, ""), "none", ""},
	{"version 2, local with addresses", v2(0x20, 0x11, v2IPv4), "none", ""},
	{"version 2, datagrams", v2(0x21, 0x12, v2IPv4), "none", ""},
	{"version 2, UNIX", v2(0x21, 0x31, strings.Repeat("/", 216)), "none", ""},

	{"nothing", "", "", ""},
	{"IMAP", "a LOGIN alice wonderland\r\n", "", ""},
	{"a short command", "a NOOP\r\n", "", ""},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdef", "", ""},
	{"version 1 in small letters", "proxy TCP4 192.0.2.7 198.51.100.1 4711 993\r\n", "", ""},
	{"version 1 without an end", "PROXY TCP4 " + strings.Repeat("1", 200), "", ""},
	{"version 1, cut off", "PROXY TCP4 192.0.2.7 19", "", ""},
	{"version 1, no address", "PROXY TCP4 localhost localhost 4711 993\r\n", "", ""},
	{"version 1, port too high", "PROXY TCP4 192.0.2.7 198.51.100.1 65536 993\r\n", "", ""},
	{"version 1, families mixed", "PROXY TCP4 2001:db8::7 198.51.100.1 4711 993\r\n", "", ""},
	{"version 2, cut off", v2(0x21, 0x11, v2IPv4)[:20], "", ""},
	{"version 2, cut off early", v2(0x21, 0x11, v2IPv4)[:15], "", ""},
	{"version 2, too little for addresses", v2(0x21, 0x11, v2IPv4[:8]), "", ""},
	{"version 2, too long", v2(0x21, 0x11, v2IPv4+strings.Repeat("x", 4096)), "", ""},
	{"version 2, 64 KiB announced", v2(0x21, 0x11, "")[:14] + "\xff\xff", "", ""},
	{"version 2, 64 KiB", v2(0x21, 0x11, v2IPv4+strings.Repeat("x", 65000)), "", ""},
	{"version 3", v2(0x31, 0x11, v2IPv4), "", ""},
}

func TestReadProxyHeader(t *testing.T) {
	for _, tt := range proxyHeaders {
		t.Run(tt.name, func(t *testing.T) {
			const after = "what comes after the header"
			for _, chunk := range []struct {
				name string
				read func(io.Reader) io.Reader
			}{
				{"whole", func(r io.Reader) io.Reader { return r }},
				{"byte by byte", iotest.OneByteReader},
			} {
				stream := strings.NewReader(tt.header)
				if tt.client != "" {
					stream = strings.NewReader(tt.header + after)
				}
				got, err := ReadProxyHeader(chunk.read(stream))
				if tt.client == "" {
					if err == nil || got != (ProxyHeader{}) {
						t.Errorf("%s: got %+v and %v, want an error", chunk.name, got, err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", chunk.name, err)
				}
				var want ProxyHeader
				if tt.client != "none" {
					want = ProxyHeader{netip.MustParseAddrPort(tt.client), netip.MustParseAddrPort(tt.server)}
				}
				if got != want {
					t.Errorf("%s: got %+v, want %+v", chunk.name, got, want)
				}
				if rest, _ := io.ReadAll(stream); string(rest) != after {
					t.Errorf("%s: the rest is %q, want what follows the header", chunk.name, rest)
				}
			}
		})
	}
	if _, err := ReadProxyHeader(strings.NewReader("a LOGIN alice wonderland\r\n")); !errors.Is(err, ErrNoProxyHeader) {
		t.Errorf("IMAP instead of a header: got %v", err)
	}
	if _, err := ReadProxyHeader(strings.NewReader("")); !errors.Is(err, io.EOF) {
		t.Errorf("end instead of a header: got %v, want io.EOF, which identifies health checks", err)
	}
}

// FuzzReadProxyHeader checks that no more than a header's bytes are read, and that addresses come in pairs.
func FuzzReadProxyHeader(f *testing.F) {
	for _, tt := range proxyHeaders {
		f.Add([]byte(tt.header))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		header, err := ReadProxyHeader(r)
		if read := len(stream) - r.Len(); read > proxyV2+maxProxyV2 {
			t.Fatalf("%d bytes were read", read)
		}
		if err != nil && header != (ProxyHeader{}) || header.Client.IsValid() != header.Server.IsValid() {
			t.Fatalf("got %+v and %v", header, err)
		}
	})
}
