package imap

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
	// maxProxyV2 bounds what the length counts: addresses, and extensions such as a client's certificate.
	maxProxyV2 = 4096
)

// An origin is where a client's connection comes from: its two ends as TCP has them, or as the PROXY header of a trusted
// proxy says.
type origin struct {
	client, server netip.AddrPort
	proxied        bool // there was a PROXY header
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

// proxyHeader returns the PROXY header that tells the origin to a server; nil if none is wanted.
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
	b, err := header.Format()
	if err != nil {
		return nil, fmt.Errorf("PROXY header for %v: %w", o.client, err)
	}
	return b, nil
}

// readProxyHeader reads a PROXY header of either version from r, and not one byte more, and returns the origin that it says.
// A header that says none (UNKNOWN, LOCAL, and those of other protocols than TCP) leaves the addresses of o.
func (o origin) readProxyHeader(r io.Reader) (origin, error) {
	raw, err := cutProxyHeader(r)
	if err != nil {
		return o, err
	}
	header, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return o, err
	}
	o.proxied = true
	if client, server, ok := header.TCPAddrs(); ok && header.Command.IsProxy() {
		o.client, o.server = addrPort(client), addrPort(server)
	}
	return o, nil
}

var errNoProxyHeader = errors.New("no PROXY header, which a connection from this network has to begin with")

// cutProxyHeader reads the bytes of a header, whose end only its contents tell. A version 1 header costs a read for each of its
// last bytes, and leaves nothing that would have to be kept in front of the connection.
func cutProxyHeader(r io.Reader) ([]byte, error) {
	header := make([]byte, minProxyV1, maxProxyV1)
	if n, err := io.ReadFull(r, header); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || !isProxyHeader(header[:n]) {
			return nil, errNoProxyHeader
		}
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	switch {
	case !isProxyHeader(header):
		return nil, errNoProxyHeader
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
		return nil, fmt.Errorf("PROXY header of %d bytes: %d are accepted", proxyV2+length, proxyV2+maxProxyV2)
	}
	whole := append(make([]byte, 0, proxyV2+length), header...)[:proxyV2+length]
	if _, err := io.ReadFull(r, whole[proxyV2:]); err != nil {
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	return whole, nil
}
