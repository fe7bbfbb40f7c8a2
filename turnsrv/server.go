package turnsrv

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/link"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// ErrServerClosed is returned by ServePacket and ServeStream after Close.
var ErrServerClosed = errors.New("turnsrv: server closed")

// Server is a TURN server on any number of sockets. Its methods are safe for concurrent use.
//
//	New ─▶ ServePacket, ServeStream … ─▶ Shutdown: no new allocations, running calls go on ─▶ Close: everything ends
type Server struct {
	shared     *session.Shared
	logger     *slog.Logger
	maxStreams int

	mu     sync.Mutex // guards what follows
	closed bool
	links  map[servedLink]struct{}
	served sync.WaitGroup // Serve methods that have not returned
}

// servedLink is a link that a Serve method serves.
type servedLink interface {
	// Close has serve return. Safe for concurrent use.
	Close()
}

// New returns a Server that does nothing yet.
func New(config Config) (*Server, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("turnsrv: %w", err)
	}
	return &Server{
		shared: session.NewShared(config.session()), logger: config.Logger, maxStreams: config.MaxStreams, links: make(map[servedLink]struct{}),
	}, nil
}

// ServePacket serves the clients of a UDP socket until Close, or until the socket is closed. It owns conn and closes it.
// It returns ErrServerClosed after Close.
//
// A client is answered from the address that it has sent to, also by a socket that is bound to all of them (on Linux).
//
// Several sockets of one address, as SO_REUSEPORT gives them, are served by one call each: the system has to bring a
// client always to the same socket, as Linux does.
func (s *Server) ServePacket(conn net.PacketConn) error {
	l, err := link.NewDatagram(conn, s.shared.Counters)
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("turnsrv: %w", err)
	}
	return s.servePacket(conn, l)
}

// ServeDTLS is ServePacket for a socket with clients that encrypt, RFC 7350, and with others too if plain is true: they are
// told apart by the first byte of a packet, RFC 7983. Of config it uses Certificates, GetCertificate and NextProtos; a
// client that offers no protocol of NextProtos but others is refused, one that offers none is not. DTLS is version 1.2.
func (s *Server) ServeDTLS(conn net.PacketConn, config *tls.Config, plain bool) error {
	l, listener, err := link.NewDTLS(conn, config, plain, s.logger, s.shared.Counters)
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("turnsrv: %w", err)
	}
	var associations sync.WaitGroup
	associations.Go(func() { _ = s.ServeStream(listener) })
	err = s.servePacket(conn, l)
	_ = listener.Close()
	associations.Wait()
	return err
}

// servePacket serves conn, on which l is.
func (s *Server) servePacket(conn net.PacketConn, l *link.Datagram) error {
	defer func() { _ = conn.Close() }()
	if err := s.begin(l); err != nil {
		return err
	}
	defer s.served.Done()
	return s.end(l, l.Serve(session.New(s.shared, l)))
}

// ServeStream serves the clients of a TCP listener, or of one made by tls.NewListener, until Close, or until the listener
// is closed. The connections of any other listener that have the method HandshakeContext of tls.Conn are taken for TLS
// too, unless they have a method Encrypted() bool that says otherwise after the handshake, and are asked for their addresses
// again then. Their ConnectionState, if they have that method, names the server for Config.Realms. It owns listener and closes
// it. It returns ErrServerClosed after Close.
func (s *Server) ServeStream(listener net.Listener) error {
	defer func() { _ = listener.Close() }()
	l := link.NewStreams(s.maxStreams, s.shared.Counters)
	if err := s.begin(l); err != nil {
		return err
	}
	defer s.served.Done()
	return s.end(l, l.Serve(listener, session.New(s.shared, l), func(err error) {
		s.shared.LogAccept(listener.Addr(), err, time.Now())
	}))
}

// begin registers a link, so that Close reaches it.
func (s *Server) begin(l servedLink) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrServerClosed
	}
	s.links[l] = struct{}{}
	s.served.Add(1)
	return nil
}

// end forgets a link and returns the error of its Serve method.
func (s *Server) end(l servedLink, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, l)
	if s.closed {
		return ErrServerClosed
	}
	return err
}

// Shutdown refuses new allocations with 508 and waits until the running ones have ended, or ctx is done. Then it calls
// Close. It returns the context's error if that cut calls short.
func (s *Server) Shutdown(ctx context.Context) error {
	empty := s.shared.Drain()
	var cut error
	select {
	case <-empty:
	case <-ctx.Done():
		select {
		case <-empty: // no call is left, and ctx is done as well
		default:
			cut = ctx.Err()
		}
	}
	return errors.Join(cut, s.Close())
}

// Close ends all allocations, closes all sockets and connections, and waits until the Serve methods have returned.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	links := maps.Clone(s.links)
	s.mu.Unlock()
	for l := range links {
		l.Close()
	}
	s.served.Wait()
	return nil
}

// SetQuotas replaces the Quotas of the Config. Allocations that are there already stay, with the new limits.
func (s *Server) SetQuotas(q limit.Quotas) { s.shared.SetQuotas(quotasWithDefaults(q)) }

// SetExpiredGrace replaces that of the Config, for running calls too.
func (s *Server) SetExpiredGrace(grace time.Duration) {
	setDefault(&grace, DefaultExpiredGrace)
	s.shared.SetExpiredGrace(grace)
}

// Allocations returns the number of live allocations.
func (s *Server) Allocations() int { return s.shared.Allocations() }

// Counters returns what the server has done so far. It takes no lock that a packet waits for: it may be called as
// often as one likes.
func (s *Server) Counters() Counters {
	c := snapshot(s.shared.Counters)
	c.Allocations = s.Allocations()
	return c
}
