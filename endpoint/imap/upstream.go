package imap

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

	"github.com/mailturn/mailturn/framework/bounded"
)

// failureMemory is how long a server that could not be used is tried after the others.
const failureMemory = 30 * time.Second

// healthMemory is how long health believes the last attempt to connect. Attempts of its own show in the log of the mail server.
const healthMemory = 30 * time.Second

// An upstream is the IMAP server that is already there, reached at one or several addresses.
type upstream struct {
	logger         *slog.Logger
	servers        []*upstreamServer // in the order of the configuration; fixed
	connectTimeout time.Duration
	clientAddress  ClientAddress

	checking sync.Mutex // held by health; taken before mu

	mu       sync.Mutex // guards what follows, and failed of each server
	lastDial time.Time  // when the last attempt to connect a client, or of health, ended
	dialErr  error      // how
}

// An upstreamServer is one address of the server.
type upstreamServer struct {
	address UpstreamAddress
	tls     *tls.Config // nil for tcp:// and unix://
	failed  time.Time   // when it could last not be used; zero if it could
}

func newUpstream(c Upstream, logger *slog.Logger) (*upstream, error) {
	var roots *x509.CertPool // nil for the system's
	if c.CAFile != "" {
		var err error
		if roots, err = readRoots(c.CAFile); err != nil {
			return nil, err
		}
	}
	u := &upstream{logger: logger, connectTimeout: c.ConnectTimeout, clientAddress: c.ClientAddress}
	for _, address := range c.Addresses {
		server := &upstreamServer{address: address}
		if address.encrypted() {
			server.tls = &tls.Config{
				MinVersion: tls.VersionTLS12, ServerName: c.ServerName, RootCAs: roots,
				ClientSessionCache: tls.NewLRUClientSessionCache(1), // the last session's ticket is for the next
			}
			if c.ServerName == "" {
				server.tls.ServerName, _, _ = net.SplitHostPort(address.Address)
			}
		}
		u.servers = append(u.servers, server)
	}
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
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	return roots, nil
}

// dial connects to the first server that greets. The connection's first bytes are the greeting. The error is a *byeError if
// a server greets with BYE: that is about the client, and no other server is asked to let it in nevertheless.
func (u *upstream) dial(ctx context.Context, from origin) (backendConn, error) {
	conn, err := u.dialServers(ctx, from)
	if _, refused := errors.AsType[*byeError](err); refused || err == nil {
		u.noteDial(nil)
	} else if ctx.Err() == nil {
		u.noteDial(err)
	}
	return conn, err
}

func (u *upstream) noteDial(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lastDial, u.dialErr = time.Now(), err
}

// health returns how the last attempt to connect has ended, if that was lately, or else tries one as if for a client on this
// machine.
func (u *upstream) health() error {
	u.checking.Lock()
	defer u.checking.Unlock()
	u.mu.Lock()
	last, err := u.lastDial, u.dialErr
	u.mu.Unlock()
	if !last.IsZero() && time.Since(last) < healthMemory {
		return err
	}
	ourselves := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), defaultPort)
	conn, err := u.dial(context.Background(), origin{client: ourselves, server: ourselves})
	if err != nil {
		if _, refused := errors.AsType[*byeError](err); refused {
			return nil // the server answers
		}
		return err
	}
	conn.Close()
	return nil
}

func (u *upstream) dialServers(ctx context.Context, from origin) (backendConn, error) {
	var failures []string
	for _, server := range u.order(time.Now()) {
		conn, err := u.connect(ctx, server, from)
		if err != nil && ctx.Err() != nil {
			return nil, context.Cause(ctx) // given up here, which says nothing about the server
		}
		_, refused := errors.AsType[*byeError](err)
		u.note(server, err != nil && !refused)
		if err == nil || refused {
			return conn, err
		}
		failures = append(failures, fmt.Sprintf("%v: %v", server.address, err))
	}
	return nil, errors.New(strings.Join(failures, "; "))
}

// order returns the servers that have not failed lately, and then those that have, both as configured.
func (u *upstream) order(now time.Time) []*upstreamServer {
	u.mu.Lock()
	defer u.mu.Unlock()
	var good, failed []*upstreamServer
	for _, server := range u.servers {
		if !server.failed.IsZero() && now.Sub(server.failed) < failureMemory {
			failed = append(failed, server)
		} else {
			good = append(good, server)
		}
	}
	return append(good, failed...)
}

// note remembers whether the server could be used, and logs when that changes and there are others.
func (u *upstream) note(server *upstreamServer, failed bool) {
	u.mu.Lock()
	changed := failed == server.failed.IsZero()
	if failed {
		server.failed = time.Now()
	} else {
		server.failed = time.Time{}
	}
	u.mu.Unlock()
	switch {
	case !changed || len(u.servers) == 1:
	case failed:
		u.logger.Warn("backend failed, others go first", "backend", server.address.String())
	default:
		u.logger.Info("backend answers again", "backend", server.address.String())
	}
}

// connect opens a connection to one server and reads its greeting, within the connect time-out.
func (u *upstream) connect(ctx context.Context, server *upstreamServer, from origin) (backendConn, error) {
	ctx, cancel := context.WithTimeout(ctx, u.connectTimeout)
	defer cancel()
	network := "tcp"
	if server.address.Scheme == "unix" {
		network = "unix"
	}
	conn, err := (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext(ctx, network, server.address.Address)
	if err != nil {
		return nil, err
	}
	interruptible := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	greeted, err := u.greet(ctx, server, newPatientConn(conn), from)
	if !interruptible() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	greeted.raw.beginPatience()
	return greeted, nil
}

// greet brings a new connection to the point where the client's commands may follow. The PROXY header goes first, before
// TLS.
func (u *upstream) greet(ctx context.Context, server *upstreamServer, raw *patientConn, from origin) (*greetedConn, error) {
	var conn halfCloser = raw
	if header, err := from.proxyHeader(u.clientAddress); err != nil {
		return nil, err
	} else if _, err := conn.Write(header); err != nil {
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	if server.address.Scheme == "tls" {
		tlsConn := tls.Client(conn, server.tls)
		if err := tlsConn.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		conn = tlsConn
	}
	greeting, ahead, err := readGreeting(conn)
	if err != nil {
		return nil, err
	}
	if server.address.Scheme == "starttls" {
		return startUpstreamTLS(ctx, raw, server.tls, greeting, ahead)
	}
	return &greetedConn{conn, raw, append(greeting, ahead...)}, nil
}

// String names all addresses.
func (u *upstream) String() string {
	var addresses []string
	for _, server := range u.servers {
		addresses = append(addresses, server.address.String())
	}
	return strings.Join(addresses, " ")
}

func (u *upstream) close() {}
