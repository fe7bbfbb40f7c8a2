package imap

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// rejectTimeout limits the TLS handshake with a client that is refused.
const rejectTimeout = 5 * time.Second

// A listener is a bound socket. Reload may change the scheme of addr, and nothing else of it.
type listener struct {
	net.Listener
	addr listen.Addr // as configured; the scheme is guarded by Endpoint.mu
}

// An arrival is an accepted connection.
type arrival struct {
	conn        *patient.Conn
	origin      origin.Origin
	implicitTLS bool
	// generation is the generation that was in force when the connection was accepted.
	generation *generation
	// secured is the TLS connection on conn if the handshake has been performed; otherwise nil.
	secured *shared.Secured
	// awaitsHeader is true if the connection comes from a proxy whose header has not been read yet.
	awaitsHeader bool
}

// admit serves conn, or refuses it if there are too many connections.
func (e *Endpoint) admit(conn net.Conn, l *listener) {
	if tcp, ok := conn.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		tcp.SetKeepAliveConfig(patient.KeepAlive())
	}
	a, refusal := e.enter(conn, l)
	e.serving.Go(func() {
		if s := e.welcome(&a, refusal); s != nil {
			s.clientSide()
		}
	})
}

// welcome begins the session of a connection, or refuses it. It returns nil if there is no session, and has closed the connection
// then.
func (e *Endpoint) welcome(a *arrival, refusal string) (s *session) {
	defer func() {
		if s == nil {
			a.conn.Close()
		}
	}()
	defer recoverPanic(func() *slog.Logger { return e.logger })
	if refusal == "" {
		s, refusal = e.receive(a)
	}
	if refusal != "" {
		e.turnAway(a, refusal)
	}
	return s
}

// enter counts a connection, or returns why it is refused.
func (e *Endpoint) enter(conn net.Conn, l *listener) (a arrival, refusal string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a = arrival{conn: patient.New(conn), origin: origin.Of(conn), implicitTLS: l.addr.Scheme == "tls", generation: e.present}
	if from := shared.Of(conn); from != nil {
		a.origin, a.secured = from.Origin(), from.Secured()
		a.conn.Unread(from.TakeAhead())
	} else {
		a.awaitsHeader = e.present.config.ProxyProtocol.Contains(a.origin.Client.Addr())
	}
	switch {
	case e.draining:
		return a, byeShutdown
	case e.connections >= e.present.config.MaxConnections:
		return a, "[LIMIT] Too many connections: try again later"
	}
	e.connections++
	a.generation.connections.Add(1)
	return a, ""
}

// leave undoes enter.
func (e *Endpoint) leave(a *arrival) {
	e.mu.Lock()
	e.connections--
	e.mu.Unlock()
	a.generation.connections.Done()
}

// receive begins the session of a connection that enter has counted, or returns why it is refused now that its origin is known.
func (e *Endpoint) receive(a *arrival) (s *session, refusal string) {
	defer func() {
		if s == nil {
			e.leave(a)
		}
	}()
	if err := e.readHeader(a, handshakeTimeout); err != nil {
		e.headerMissing(a, err)
		return nil, ""
	}
	if refusal := e.enterUnauthenticated(a); refusal != "" {
		return nil, refusal
	}
	return e.begin(a), ""
}

// readHeader reads the PROXY header, if the connection must start with one. The end of Shutdown's time closes the connection.
func (e *Endpoint) readHeader(a *arrival, timeout time.Duration) (err error) {
	if !a.awaitsHeader {
		return nil
	}
	keepOpen := context.AfterFunc(e.ctx, func() { a.conn.Close() })
	defer keepOpen()
	a.conn.SetReadDeadline(time.Now().Add(timeout))
	defer a.conn.SetReadDeadline(time.Time{})
	a.origin, err = a.origin.ReadProxyHeader(a.conn)
	a.awaitsHeader = false
	return err
}

// headerMissing ends a connection from a proxy that did not start with a header. A connection that was closed immediately is a
// health check of the proxy.
func (e *Endpoint) headerMissing(a *arrival, err error) {
	if errors.Is(err, io.EOF) || e.ctx.Err() != nil {
		return
	}
	e.outage.Log(e.logger, slog.LevelWarn, "connection from a proxy refused", "client", a.origin.Client.String(), "err", err)
	if !a.implicitTLS {
		newClientConn(a.conn).sayBye("PROXY protocol header required")
	}
}

// enterUnauthenticated counts a connection that has not logged in, or returns why it is refused.
func (e *Endpoint) enterUnauthenticated(a *arrival) (refusal string) {
	limits := a.generation.config
	address, network := limit.Host(a.origin.Client.Addr()), limit.Network(a.origin.Client.Addr())
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.unauthenticated[address] >= limits.MaxUnauthenticated:
		return "[LIMIT] Too many connections from your address: try again later"
	case e.unauthenticated[network] >= limits.MaxUnauthenticatedNetwork.V:
		return "[LIMIT] Too many connections from your network: try again later"
	}
	e.unauthenticated[address]++
	e.unauthenticated[network]++
	return ""
}

// leaveUnauthenticated undoes enterUnauthenticated.
func (e *Endpoint) leaveUnauthenticated(o origin.Origin) {
	address, network := limit.Host(o.Client.Addr()), limit.Network(o.Client.Addr())
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, counted := range []netip.Prefix{address, network} {
		if e.unauthenticated[counted]--; e.unauthenticated[counted] <= 0 {
			delete(e.unauthenticated, counted)
		}
	}
}

// turnAway sends BYE. While many clients are being refused, connections that need TLS are closed without a BYE: the handshake would
// cost more than serving them.
func (e *Endpoint) turnAway(a *arrival, text string) {
	e.outage.Log(e.logger, slog.LevelWarn, "connection refused", "client", a.origin.Client.String(), "err", text)
	client := newClientConn(a.conn)
	select {
	case e.rejecting <- struct{}{}:
		defer func() { <-e.rejecting }()
	default:
		if !a.implicitTLS {
			client.sayByeAtOnce(text)
		}
		return
	}
	if err := e.readHeader(a, rejectTimeout); err != nil {
		return
	}
	if a.implicitTLS {
		ctx, cancel := context.WithTimeout(e.ctx, rejectTimeout)
		defer cancel()
		tlsConn, err := a.handshake(ctx)
		if err != nil {
			return
		}
		client.replace(tlsConn)
	}
	client.sayBye(text)
}

// handshake performs the server's side of TLS on the connection, unless it has been.
func (a *arrival) handshake(ctx context.Context) (*tlsConn, error) {
	if a.secured != nil {
		return adoptTLS(a.conn, a.secured), nil
	}
	conn := newTLSConn(a.conn, a.generation.tlsConfig)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return conn, nil
}
