package turnsrv

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// ErrServerClosed is returned by ServePacket and ServeStream after Close.
var ErrServerClosed = errors.New("turnsrv: server closed")

// Server is a TURN server on any number of sockets. Its methods are safe for concurrent use.
//
//	New ─▶ ServePacket, ServeStream … ─▶ Shutdown: no new allocations, running calls go on ─▶ Close: everything ends
type Server struct {
	config      Config
	nonces      *nonces
	quota       *quota
	guesses     guesses
	silentPeers silentPeers
	decoy       [16]byte // a key that nobody has
	draining    atomic.Bool

	start        time.Time              // the zero of rates
	limits       atomic.Pointer[Quotas] // those that are not the quota's
	throttles    [numDirections]throttle
	active       atomic.Int64 // allocations that relay, as the janitors last saw
	entries      atomic.Int64 // permissions and channels beyond what each allocation may have
	expiredGrace atomic.Int64 // of Config, a time.Duration

	counters counters
	samples  limit.Sampler
	builders sync.Pool // of *stun.Builder, for what one allocation delivers to another

	mu     sync.Mutex // guards what follows
	closed bool
	fronts map[*front]func() // how to stop each one
	served sync.WaitGroup    // Serve methods that have not returned
}

// New returns a Server that does nothing yet.
func New(config Config) (*Server, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("turnsrv: %w", err)
	}
	s := &Server{
		config:      config,
		nonces:      newNonces(config.NonceLifetime),
		quota:       newQuota(config.Quotas),
		start:       time.Now(),
		guesses:     guesses{burst: config.MaxGuesses},
		silentPeers: silentPeers{budget: config.SilentPeerBytes},
		builders:    sync.Pool{New: func() any { return new(stun.Builder) }},
		fronts:      make(map[*front]func()),
	}
	_, _ = rand.Read(s.decoy[:]) // never fails
	for d := range s.throttles {
		s.throttles[d].active = &s.active
	}
	s.SetQuotas(config.Quotas)
	s.SetExpiredGrace(config.ExpiredGrace)
	return s, nil
}

// ServePacket serves the clients of a UDP socket until Close, or until the socket is closed. It owns conn and closes it.
// It returns ErrServerClosed after Close.
//
// A client is answered from the address that it has sent to, also by a socket that is bound to all of them (on Linux).
//
// Several sockets of one address, as SO_REUSEPORT gives them, are served by one call each: the system has to bring a
// client always to the same socket, as Linux does.
func (s *Server) ServePacket(conn net.PacketConn) error {
	l, err := newDatagramLink(conn, &s.counters)
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
	l, err := newDatagramLink(conn, &s.counters)
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("turnsrv: %w", err)
	}
	listener := newDTLSListener(l.socket, conn.LocalAddr(), config, dtlsLogger{s.config.Logger}, &s.counters)
	l.dtls, l.encrypted = listener, !plain
	var associations sync.WaitGroup
	associations.Go(func() { _ = s.ServeStream(listener) })
	err = s.servePacket(conn, l)
	_ = listener.Close()
	associations.Wait()
	return err
}

// servePacket serves conn, on which l is.
func (s *Server) servePacket(conn net.PacketConn, l *datagramLink) error {
	f := newFront(s, l)
	if err := s.begin(f, func() {}); err != nil {
		_ = conn.Close()
		return err
	}
	defer s.served.Done()
	err := f.run()
	_ = conn.Close()
	return s.end(f, err)
}

// ServeStream serves the clients of a TCP listener, or of one made by tls.NewListener, until Close, or until the listener
// is closed. The connections of any other listener that have the method HandshakeContext of tls.Conn are taken for TLS
// too, unless they have a method Encrypted() bool that says otherwise after the handshake, and are asked for their addresses
// again then. Their ConnectionState, if they have that method, names the server for Config.Realms. It owns listener and closes
// it. It returns ErrServerClosed after Close.
func (s *Server) ServeStream(listener net.Listener) error {
	l := newStreamLink(s.config.MaxStreams, &s.counters)
	f := newFront(s, l)
	stop := func() {
		l.cancel()
		_ = listener.Close()
	}
	if err := s.begin(f, stop); err != nil {
		_ = listener.Close()
		return err
	}
	defer s.served.Done()
	var serving sync.WaitGroup
	serving.Go(func() { _ = f.run() })
	err := l.accept(listener, func(err error) {
		if skipped, due := s.samples.Next("accept", time.Now()); due {
			s.config.Logger.Warn("cannot accept connections for now",
				"listen", listener.Addr().String(), "err", err, "skipped", skipped)
		}
	})
	f.close()
	serving.Wait()
	l.close()
	_ = listener.Close()
	return s.end(f, err)
}

// begin registers f. stop is called by Close, besides f.close.
func (s *Server) begin(f *front, stop func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrServerClosed
	}
	s.fronts[f] = stop
	s.served.Add(1)
	return nil
}

// end takes f out and returns what its Serve method has to say.
func (s *Server) end(f *front, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.fronts, f)
	if s.closed {
		return ErrServerClosed
	}
	return err
}

// Shutdown refuses new allocations with 508 and waits until the running ones have ended, or ctx is done. Then it calls
// Close. It returns the context's error if that cut calls short.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	var cut error
	empty := s.quota.whenEmpty()
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
	fronts := maps.Clone(s.fronts)
	s.mu.Unlock()
	for f, stop := range fronts {
		f.close()
		stop()
	}
	s.served.Wait()
	return nil
}

// SetQuotas replaces the Quotas of the Config. Allocations that are there already stay, with the new limits.
func (s *Server) SetQuotas(q Quotas) {
	s.quota.limit(q)
	setDefault(&q.MaxPermissions, DefaultMaxPermissions)
	setDefault(&q.MaxChannels, DefaultMaxChannels)
	s.limits.Store(&q)
}

// SetExpiredGrace replaces that of the Config, for running calls too.
func (s *Server) SetExpiredGrace(grace time.Duration) {
	setDefault(&grace, DefaultExpiredGrace)
	s.expiredGrace.Store(int64(max(grace, 0)))
}

// Allocations returns the number of live allocations.
func (s *Server) Allocations() int { return s.quota.count() }

// Counters returns what the server has done so far. It takes no lock that a packet waits for: it may be called as
// often as one likes.
func (s *Server) Counters() Counters {
	c := s.counters.snapshot()
	c.Allocations = s.quota.count()
	return c
}

// logRefusal shows one refused request a minute of each method and code, at debug. Allocate requests have events.
func (s *Server) logRefusal(o *origin, code stun.ErrorCode) {
	if o.method == stun.MethodAllocate || !s.config.Logger.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	if skipped, due := s.samples.Next(fmt.Sprint(o.method, int(code)), time.Now()); due {
		s.config.Logger.Debug("request refused", "method", o.method.String(), "code", int(code),
			"client", o.client.tuple.Client.String(), "username", o.username, "skipped", skipped)
	}
}

// logQuota tells the operator that clients are refused because of a quota. That of the server is one to act on.
func (s *Server) logQuota(reached RefusalReason, now time.Time) {
	level := slog.LevelInfo
	if reached == RefusedTotalQuota {
		level = slog.LevelWarn
	}
	if skipped, due := s.samples.Next(reached.String(), now); due {
		s.config.Logger.Log(context.Background(), level, "allocation refused by a quota", "reason", reached.String(), "skipped", skipped)
	}
}

// logFarExpiry tells the operator of a credential that somebody has issued for too long.
func (s *Server) logFarExpiry(expires, now time.Time) {
	if skipped, due := s.samples.Next(RefusedFarExpiry.String(), now); due {
		s.config.Logger.Warn("credential refused: it expires too far ahead", "expires", expires, "skipped", skipped)
	}
}

// logRefusedPeer tells the operator, now and then, that a rule refuses peers that clients want.
func (s *Server) logRefusedPeer(peer netip.Addr, rule string, now time.Time) {
	if skipped, due := s.samples.Next(rule, now); due {
		s.config.Logger.Info("peer refused", "peer", peer.String(), "rule", rule, "skipped", skipped)
	}
}

// logRelayError tells the operator that relayed addresses cannot be opened.
func (s *Server) logRelayError(err error, now time.Time) {
	if skipped, due := s.samples.Next("relay", now); due {
		s.config.Logger.Warn("cannot open a relayed address", "err", err, "skipped", skipped)
	}
}
