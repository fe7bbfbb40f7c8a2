package imap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// upstreamDialTimeout bounds connecting to the upstream server, its TLS handshake included. A client waits meanwhile.
const upstreamDialTimeout = 10 * time.Second

// An upstream is the IMAP server that is already there.
type upstream struct {
	network, address string      // as net.Dial takes them
	tls              *tls.Config // nil for tcp:// and unix://
}

func newUpstream(c Upstream) (*upstream, error) {
	u := &upstream{network: "tcp", address: c.Address}
	switch c.Scheme {
	case "unix":
		u.network = "unix"
	case "tls":
		u.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
		if c.CAFile != "" {
			roots, err := readRoots(c.CAFile)
			if err != nil {
				return nil, err
			}
			u.tls.RootCAs = roots
		}
	}
	return u, nil
}

// readRoots reads the certificates that sign the upstream's.
func readRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	return roots, nil
}

func (u *upstream) dial(ctx context.Context, _ netip.AddrPort) (backendConn, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamDialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, u.network, u.address)
	if err != nil {
		return nil, err
	}
	if u.tls == nil {
		return conn.(backendConn), nil // *net.TCPConn or *net.UnixConn
	}
	tlsConn := tls.Client(conn, u.tls)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", u.address, err)
	}
	return tlsConn, nil
}

func (u *upstream) String() string {
	switch {
	case u.network == "unix":
		return "unix://" + u.address
	case u.tls != nil:
		return "tls://" + u.address
	default:
		return "tcp://" + u.address
	}
}

func (u *upstream) syncLiterals() bool { return false }

func (u *upstream) close() {}
