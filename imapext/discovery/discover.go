package discovery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// imapsPort is the only TLS port on which core does not use ALPN.
const imapsPort = 993

// Security is how a connection is protected.
type Security int

const (
	ImplicitTLS Security = iota // RFC 8314 section 3.2
	StartTLS                    // RFC 9051 section 6.2.1
	Plain                       // no TLS: for loopback, because the credentials are sent in the clear
)

// Options are what Discover needs to know.
type Options struct {
	Host        string
	Port        uint16
	Security    Security    // ImplicitTLS by default
	TLS         *tls.Config // nil for the system's roots and Host as the server's name
	Credentials Credentials
	Dialer      Dialer           // nil for a net.Dialer
	Now         func() time.Time // the clock; nil for time.Now
}

// A Dialer connects to address, HOST:PORT, over network, which is "tcp": *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// TLSConfig returns config, or an empty one, for a connection to host and port as core makes it: ALPN "imap" under
// implicit TLS unless the port is 993.
func TLSConfig(config *tls.Config, host string, port uint16, security Security) *tls.Config {
	config = config.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	if security == ImplicitTLS && port != imapsPort {
		config.NextProtos = []string{"imap"}
	}
	return config
}

// Discover asks the server once and returns what core would work with. An error means that core would not get mail either: no
// connection, no login, or ErrUnparsable. ctx limits the whole exchange; without a deadline, the limit is one minute, as for each
// of core's reads.
func Discover(ctx context.Context, o Options) (Decision, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Minute)
		defer cancel()
	}
	now := o.Now
	if now == nil {
		now = time.Now
	}
	c, err := o.connect(ctx)
	if err != nil {
		return Decision{}, err
	}
	defer c.Close()
	capabilities, err := c.LogIn(ctx, o.Credentials)
	if err != nil {
		return Decision{}, err
	}
	if !Has(capabilities, "METADATA") {
		return fallback(ErrNoCapability, now()), nil
	}
	if Has(capabilities, "COMPRESS=DEFLATE") {
		if err := c.Compress(ctx); err != nil {
			return Decision{}, err
		}
	}
	entries, err := c.GetMetadata(ctx, Entries())
	if status, ok := errors.AsType[*StatusError](err); ok && status.Status != "BYE" {
		return fallback(fmt.Errorf("%w: %w", ErrNoEntry, err), now()), nil
	} else if err != nil {
		return Decision{}, err
	}
	_ = c.Logout(ctx) // core never says goodbye, and the answer is here
	return Decide(entries, now()), nil
}

func (o *Options) connect(ctx context.Context) (*Client, error) {
	dialer := o.Dialer
	if dialer == nil {
		dialer = &net.Dialer{}
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(o.Host, strconv.Itoa(int(o.Port))))
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	config := TLSConfig(o.TLS, o.Host, o.Port, o.Security)
	if o.Security == ImplicitTLS {
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		conn = secure
	}
	c, err := NewClient(ctx, conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if o.Security == StartTLS {
		if _, err := c.StartTLS(ctx, config); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return c, nil
}
