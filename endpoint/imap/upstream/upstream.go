// Package upstream connects clients to the existing IMAP server.
package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/backend"
	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
	"github.com/mailturn/mailturn/framework/bounded"
)

// failureMemory is how long an address that has failed is tried after the others.
const failureMemory = 30 * time.Second

// healthMemory is how long Health relies on the last attempt to connect. Its own attempts appear in the mail server's log.
const healthMemory = 30 * time.Second

// An Upstream is the existing IMAP server, at one address or several.
type Upstream struct {
	logger         *slog.Logger
	targets        []*target // in the order of the configuration; fixed
	name           string    // all addresses
	connectTimeout time.Duration
	clientAddress  ClientAddress

	checking sync.Mutex // held by health; taken before mu

	mu       sync.Mutex // guards what follows, and failed of each target
	lastDial time.Time  // when the last attempt to connect a client, or of health, ended
	dialErr  error      // how
}

// A target is one address of the server.
type target struct {
	address Address
	tls     *tls.Config // nil for tcp:// and unix://
	failed  time.Time   // when it last failed; zero if it did not
}

// New returns the Upstream for c. It reads the certificates of c.CAFile.
func New(c Config, logger *slog.Logger) (*Upstream, error) {
	var roots *x509.CertPool // nil for the system's
	if c.CAFile != "" {
		var err error
		if roots, err = readRoots(c.CAFile); err != nil {
			return nil, err
		}
	}
	u := &Upstream{logger: logger, connectTimeout: c.ConnectTimeout, clientAddress: c.ClientAddress}
	var names []string
	for _, address := range c.Addresses {
		t := &target{address: address}
		if address.encrypted() {
			t.tls = &tls.Config{
				MinVersion: tls.VersionTLS12, ServerName: c.ServerName, RootCAs: roots,
				ClientSessionCache: tls.NewLRUClientSessionCache(1), // the last session's ticket is for the next
			}
			if c.ServerName == "" {
				t.tls.ServerName, _, _ = net.SplitHostPort(address.Address)
			}
		}
		u.targets = append(u.targets, t)
		names = append(names, address.String())
	}
	u.name = strings.Join(names, " ")
	return u, nil
}

// readRoots reads the certificates that sign the upstream's.
func readRoots(file string) (*x509.CertPool, error) {
	text, _, err := bounded.ReadFile(file, bounded.MaxFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s contains no certificate in PEM format", file)
	}
	return roots, nil
}

// Dial connects to the first address that answers with a greeting, which is what the connection's first bytes are. The error is a
// *backend.ByeError if the greeting is BYE: that concerns the client, so no other address is tried.
func (u *Upstream) Dial(ctx context.Context, from origin.Origin) (backend.Conn, error) {
	conn, err := u.dialServers(ctx, from)
	if _, refused := errors.AsType[*backend.ByeError](err); refused || err == nil {
		u.noteDial(nil)
	} else if ctx.Err() == nil {
		u.noteDial(err)
	}
	return conn, err
}

func (u *Upstream) noteDial(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lastDial, u.dialErr = time.Now(), err
}

// Health returns the error of the last attempt to connect, if that was recent. Otherwise it connects as if for a client on this
// machine.
func (u *Upstream) Health() error {
	u.checking.Lock()
	defer u.checking.Unlock()
	u.mu.Lock()
	last, err := u.lastDial, u.dialErr
	u.mu.Unlock()
	if !last.IsZero() && time.Since(last) < healthMemory {
		return err
	}
	ourselves := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 143)
	conn, err := u.Dial(context.Background(), origin.Origin{Client: ourselves, Server: ourselves})
	if err != nil {
		if _, refused := errors.AsType[*backend.ByeError](err); refused {
			return nil // the server answers
		}
		return err
	}
	conn.Close()
	return nil
}

func (u *Upstream) dialServers(ctx context.Context, from origin.Origin) (backend.Conn, error) {
	var failures []string
	for _, t := range u.order(time.Now()) {
		conn, err := u.connect(ctx, t, from)
		if err != nil && ctx.Err() != nil {
			return nil, context.Cause(ctx) // cancelled here, which says nothing about the server
		}
		_, refused := errors.AsType[*backend.ByeError](err)
		u.note(t, err != nil && !refused)
		if err == nil || refused {
			return conn, err
		}
		failures = append(failures, fmt.Sprintf("%v: %v", t.address, err))
	}
	return nil, errors.New(strings.Join(failures, "; "))
}

// order returns the targets that have not failed recently, and then those that have, both in the order of the configuration.
func (u *Upstream) order(now time.Time) []*target {
	u.mu.Lock()
	defer u.mu.Unlock()
	var good, failed []*target
	for _, t := range u.targets {
		if !t.failed.IsZero() && now.Sub(t.failed) < failureMemory {
			failed = append(failed, t)
		} else {
			good = append(good, t)
		}
	}
	return append(good, failed...)
}

// note records whether the target worked, and logs a change if there are others.
func (u *Upstream) note(t *target, failed bool) {
	u.mu.Lock()
	changed := failed == t.failed.IsZero()
	if failed {
		t.failed = time.Now()
	} else {
		t.failed = time.Time{}
	}
	u.mu.Unlock()
	switch {
	case !changed || len(u.targets) == 1:
	case failed:
		u.logger.Warn("backend failed, trying the others first", "backend", t.address.String())
	default:
		u.logger.Info("backend answers again", "backend", t.address.String())
	}
}

// connect opens a connection to one server and reads its greeting, within the connect time-out.
func (u *Upstream) connect(ctx context.Context, t *target, from origin.Origin) (backend.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, u.connectTimeout)
	defer cancel()
	network := "tcp"
	if t.address.Scheme == "unix" {
		network = "unix"
	}
	conn, err := (&net.Dialer{KeepAliveConfig: patient.KeepAlive()}).DialContext(ctx, network, t.address.Address)
	if err != nil {
		return nil, err
	}
	interruptible := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	greeted, err := u.greet(ctx, t, patient.New(conn), from)
	if !interruptible() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	greeted.raw.BeginPatience()
	return greeted, nil
}

// greet prepares a new connection for the client's commands. The PROXY header is sent first, before TLS.
func (u *Upstream) greet(ctx context.Context, t *target, raw *patient.Conn, from origin.Origin) (*greetedConn, error) {
	var conn backend.HalfCloser = raw
	if version := u.clientAddress.proxyVersion(); version != 0 {
		header, err := from.ProxyHeader(version)
		if err != nil {
			return nil, err
		}
		if _, err := conn.Write(header); err != nil {
			return nil, fmt.Errorf("PROXY header: %w", err)
		}
	}
	if t.address.Scheme == "tls" {
		tlsConn := tls.Client(conn, t.tls)
		if err := tlsConn.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		conn = tlsConn
	}
	greeting, ahead, err := ReadGreeting(conn)
	if err != nil {
		return nil, err
	}
	if t.address.Scheme == "starttls" {
		return startTLS(ctx, raw, t.tls, greeting, ahead)
	}
	return &greetedConn{conn, raw, append(greeting, ahead...)}, nil
}

// String returns all addresses.
func (u *Upstream) String() string { return u.name }

// Close does nothing: the sessions close their connections.
func (u *Upstream) Close() {}
