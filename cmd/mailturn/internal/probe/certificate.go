package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

// handshake starts TLS on conn and examines the certificate, even one that does not verify. The error says why nothing may be sent.
func (r *run) handshake(ctx context.Context, conn net.Conn, config *tls.Config) (*tls.Conn, *Certificate, error) {
	var verified error
	name := config.ServerName
	config = config.Clone()
	config.InsecureSkipVerify = true // VerifyConnection verifies instead, so that the chain can be shown
	config.VerifyConnection = func(state tls.ConnectionState) error {
		verified = r.verify(state, name)
		return nil
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secure, describe(secure.ConnectionState(), verified), verified
}

// describe returns the description of a certificate.
func describe(state tls.ConnectionState, verified error) *Certificate {
	leaf := state.PeerCertificates[0]
	c := &Certificate{
		Version: tls.VersionName(state.Version), ALPN: state.NegotiatedProtocol,
		Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Names: slices.Clone(leaf.DNSNames), // crypto/tls shares the leaf between connections
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Chain: len(state.PeerCertificates), Verified: verified == nil,
	}
	for _, ip := range leaf.IPAddresses {
		c.Names = append(c.Names, ip.String())
	}
	if verified != nil {
		c.Error = verified.Error()
	}
	return c
}

func (r *run) verify(state tls.ConnectionState, name string) error {
	options := x509.VerifyOptions{Roots: r.Roots, DNSName: name, CurrentTime: r.Now(), Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(options)
	return err
}

// tlsProblem returns what is wrong with a certificate and what to do, in terms of the two files that operators have.
func tlsProblem(err error, c *Certificate, host string, now time.Time) (summary, action string) {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	switch {
	case c == nil:
		return fmt.Sprintf("there is no TLS at %s: %s.", host, plainly(err)), "Check that this is the right port, and that the server expects TLS from the first byte on it."
	case errors.As(err, &wrongName):
		return fmt.Sprintf("the certificate is not for %s, but for %s.", host, strings.Join(c.Names, ", ")),
			fmt.Sprintf("Get a certificate for %s, or use a name that the certificate has.", host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && now.After(c.NotAfter):
		return fmt.Sprintf("the certificate of %s expired %s ago, on %s.", host, short(now.Sub(c.NotAfter)), c.NotAfter.UTC().Format(time.DateOnly)),
			"Renew it, reload the server, and find out why that did not happen automatically."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate of %s is not valid before %s.", host, c.NotBefore.UTC().Format(time.RFC3339)),
			"Compare the clocks of this machine and of the one that the certificate was made on."
	case errors.As(err, &unknown) && c.Chain == 1 && c.Subject != c.Issuer:
		return fmt.Sprintf("%s does not send the intermediate certificates.", host), "Serve the full chain (fullchain.pem, not cert.pem)."
	case errors.As(err, &unknown):
		return fmt.Sprintf("the certificate of %s is from an authority that is not trusted here (%s).", host, c.Issuer),
			"Get one from a public authority; or, if clients trust that one, name its file with --ca."
	default:
		return fmt.Sprintf("the certificate of %s does not verify: %v.", host, err), "Get a certificate that browsers accept."
	}
}

// tlsSummary describes a valid certificate, and warns about one that expires soon.
func tlsSummary(c *Certificate, now time.Time) (status Status, summary, action string) {
	left := c.NotAfter.Sub(now)
	summary = fmt.Sprintf("%s, certificate for %s valid for %s", c.Version, strings.Join(c.Names, ", "), short(left))
	if left < certs.Soon(c.NotAfter.Sub(c.NotBefore)) {
		return Warning, "the certificate ends in " + short(left) + ".", "Find out why it was not renewed."
	}
	return OK, summary + ".", ""
}

// dial tries the addresses in turn over TCP, up to a limit.
func (r *run) dial(ctx context.Context, addrs []netip.Addr, port uint16) (conn net.Conn, took time.Duration, err error) {
	for _, addr := range addrs[:min(len(addrs), maxAddresses)] {
		var dialer net.Dialer
		attempt, cancel := context.WithTimeout(ctx, r.Depth.patience())
		start := time.Now()
		var one error
		conn, one = dialer.DialContext(attempt, "tcp", netip.AddrPortFrom(addr, port).String())
		took = time.Since(start)
		cancel()
		if one == nil {
			return conn, took, nil
		}
		err = errors.Join(err, one)
	}
	return nil, 0, err
}
