package shared

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"
)

// pieces is a connection whose bytes arrive in pieces, and that ends after them.
type pieces struct {
	net.Conn
	rest  []byte
	sizes []byte
	calls int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	size := len(p.rest)
	if len(p.sizes) > 0 {
		size = int(p.sizes[p.calls%len(p.sizes)]) + 1
	}
	p.calls++
	n := copy(b, p.rest[:min(size, len(p.rest))])
	p.rest = p.rest[n:]
	return n, nil
}

func (p *pieces) Write([]byte) (int, error) { panic("something is written") }

// FuzzReadHello checks that the result does not depend on the pieces in which a hello arrives, that nothing is lost of what was read,
// and that no more is read than the limit.
func FuzzReadHello(f *testing.F) {
	hello := helloBytes(f, &tls.Config{ServerName: "mail.example.org", NextProtos: []string{"imap"}})
	old := helloBytes(f, &tls.Config{ServerName: "mail.example.org", MaxVersion: tls.VersionTLS12})
	for _, b := range [][]byte{
		hello, old, split(hello, 1), split(hello, 100), helloBytes(f, &tls.Config{}), append(slices.Clone(hello), "more"...), hello[:100],
		[]byte("GET / HTTP/1.1\r\n\r\n"), []byte(binding), {}, {0x16}, {0x16, 3, 1, 0, 0}, {0x80, 0x2e, 1, 3, 1, 0, 0x15},
		append([]byte{0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0}, make([]byte, maxHello)...),
	} {
		f.Add(b, []byte{})
		f.Add(b, []byte{0})
		f.Add(b, []byte{4, 0, 255})
	}
	f.Fuzz(func(t *testing.T, b, sizes []byte) {
		whole, wholeErr := readHello(&pieces{rest: b}, func() {})
		conn := &pieces{rest: b, sizes: sizes}
		got, err := readHello(conn, func() {})
		if len(got.read) > maxHello || !bytes.Equal(append(slices.Clone(got.read), conn.rest...), b) {
			t.Fatalf("read %d bytes of %d, %d are left", len(got.read), len(b), len(conn.rest))
		}
		if got.tls != whole.tls || got.name != whole.name || !slices.Equal(got.alpn, whole.alpn) || (err == nil) != (wholeErr == nil) {
			t.Fatalf("in pieces %+v, %v; whole %+v, %v", got, err, whole, wholeErr)
		}
		if err != nil && got.tls {
			t.Fatal("an error, and a hello")
		}
	})
}

// FuzzRecognize checks that more bytes do not change what a client speaks, and that maxFirst are enough.
func FuzzRecognize(f *testing.F) {
	for _, b := range []string{"", binding, "GET / HTTP/1.1", "GETMETADATA", "OPTIONS *", "a001 LOGIN", "CONNECTION", "\x40\x00"} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		want, known := Protocol(0), false
		for n := range min(len(b), maxFirst) + 1 {
			got, ok := recognize(b[:n])
			if known && (!ok || got != want) {
				t.Fatalf("%q is %v, and %q is not", b[:n-1], want, b[:n])
			}
			want, known = got, ok
		}
		if len(b) >= maxFirst && !known {
			t.Fatalf("%q is not enough", b[:maxFirst])
		}
	})
}
