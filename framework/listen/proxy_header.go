package listen

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// Sizes of the PROXY protocol (haproxy's doc/proxy-protocol.txt, sections 2.1 and 2.2).
const (
	maxProxyV1 = 107 // bytes of a version 1 header, its line end included
	minProxyV1 = 15  // "PROXY UNKNOWN" and the line end
	proxyV2    = 16  // bytes of a version 2 header before what its length counts
	// maxProxyV2 bounds the length field: addresses, and extensions such as a client's certificate.
	maxProxyV2 = 4096
)

// ProxyHeader is a header of the PROXY protocol: the two ends of the connection that the proxy has accepted. Both are zero if the
// header does not give them (UNKNOWN, LOCAL, and protocols other than TCP). IPv4 addresses are unmapped.
type ProxyHeader struct {
	Client, Server netip.AddrPort
}

// ReadProxyHeader reads a PROXY header of either version from r, and nothing more. The error is io.EOF if the connection ends
// before its first byte, as with a proxy's health check; ErrNoProxyHeader if it begins with something else; and another one for a
// header that is cut off, malformed, or longer than any useful one.
func ReadProxyHeader(r io.Reader) (ProxyHeader, error) {
	raw, err := cutProxyHeader(r)
	if err != nil {
		return ProxyHeader{}, err
	}
	header, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return ProxyHeader{}, err
	}
	client, server, ok := header.TCPAddrs()
	if !ok || !header.Command.IsProxy() {
		return ProxyHeader{}, nil
	}
	return ProxyHeader{Client: addrPort(client), Server: addrPort(server)}, nil
}

func addrPort(addr *net.TCPAddr) netip.AddrPort {
	ap := addr.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// ErrNoProxyHeader is returned for a connection that begins with something else.
var ErrNoProxyHeader = errors.New("no PROXY header, with which connections from this network must begin")

// cutProxyHeader reads the bytes of a header, whose contents determine its end. It reads the last bytes of a version 1 header one
// by one, so that it never reads beyond it.
func cutProxyHeader(r io.Reader) ([]byte, error) {
	header := make([]byte, minProxyV1, maxProxyV1)
	if n, err := io.ReadFull(r, header); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || !isProxyHeader(header[:n]) {
			return nil, ErrNoProxyHeader
		}
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	switch {
	case !isProxyHeader(header):
		return nil, ErrNoProxyHeader
	case header[0] == proxyproto.SIGV2[0]:
		return cutProxyV2(r, header)
	}
	for header[len(header)-1] != '\n' {
		if len(header) == maxProxyV1 {
			return nil, fmt.Errorf("PROXY header is longer than %d bytes", maxProxyV1)
		}
		header = header[:len(header)+1]
		if _, err := io.ReadFull(r, header[len(header)-1:]); err != nil {
			return nil, fmt.Errorf("PROXY header: %w", err)
		}
	}
	return header, nil
}

// isProxyHeader reports whether b, which may be short, can begin a header.
func isProxyHeader(b []byte) bool {
	for _, signature := range [][]byte{proxyproto.SIGV1, proxyproto.SIGV2} {
		if n := min(len(b), len(signature)); bytes.Equal(b[:n], signature[:n]) {
			return true
		}
	}
	return false
}

// cutProxyV2 reads what follows the beginning of a version 2 header.
func cutProxyV2(r io.Reader, header []byte) ([]byte, error) {
	header = header[:proxyV2]
	if _, err := io.ReadFull(r, header[minProxyV1:]); err != nil {
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	length := int(binary.BigEndian.Uint16(header[proxyV2-2:]))
	if length > maxProxyV2 {
		return nil, fmt.Errorf("PROXY header of %d bytes: at most %d are accepted", proxyV2+length, proxyV2+maxProxyV2)
	}
	whole := append(make([]byte, 0, proxyV2+length), header...)[:proxyV2+length]
	if _, err := io.ReadFull(r, whole[proxyV2:]); err != nil {
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	return whole, nil
}
