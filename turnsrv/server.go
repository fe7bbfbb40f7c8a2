package turnsrv

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/internal/link"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// ErrServerClosed is returned by ServePacket and ServeStream after Close.
var ErrServerClosed = errors.New("turnsrv: server closed")

// Server is a TURN server on any number of sockets. Safe for concurrent use.
//
//	New ─▶ ServePacket, ServeStream … ─▶ Shutdown: no new allocations, running calls go on ─▶ Close: everything ends
type Server struct {
	shared     *session.Shared
	config     Config
	handshakes *link.Handshakes

	changes sync.RWMutex // held for reading by methods that change allocations, and for writing while the server is suspended

	mu            sync.Mutex // guards what follows, except served
	closed        bool
	held          bool          // nothing is served yet: see Config.Successor
	arrived       chan struct{} // closed and replaced when there is another link
	workers       *workers      // nil before the first socket
	links         map[servedLink]struct{}
	served        sync.WaitGroup // Serve methods that have not returned
	kernel        *kernelPath    // nil if it is not used, and after Close
	kernelProblem error          // why it is not, if Config.KernelPath asks for it
}

// servedLink is a link that a Serve method is serving.
type servedLink interface {
	// Close makes serve return. Safe for concurrent use.
	Close()
	// Owns, Export and Restore are those of link.Datagram. They are called while the server is suspended.
	Owns(exported *handover.Link) bool
	Export(e *session.Export) ([]handover.Link, error)
	Restore(in *handover.Incoming, links []*handover.Link) error
}

// New returns a Server without sockets. It returns an error if config is invalid.
func New(config Config) (*Server, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("turnsrv: %w", err)
	}
	s := &Server{config: config, handshakes: link.NewHandshakes(), links: make(map[servedLink]struct{}), arrived: make(chan struct{}), held: config.Successor}
	protocol := config.session()
	if err := s.startKernelPath(&protocol); err != nil {
		return nil, fmt.Errorf("turnsrv: %w", err)
	}
	s.shared = session.NewShared(protocol)
	return s, nil
}

// ServePacket serves the clients of a UDP socket until Close is called or the socket fails. It takes ownership of conn and closes
// it. It returns ErrServerClosed after Close.
//
// A worker sends responses from the address at which the request arrived, even if the socket is bound to all addresses.
//
// Several sockets with one address (SO_REUSEPORT) require one call each, and are served by different workers. The system must
// always deliver the packets of one client to the same socket, as Linux does.
func (s *Server) ServePacket(conn net.PacketConn) error {
	worker := s.worker(conn)
	l, err := link.NewDatagram(conn, worker, s.shared.Counters)
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("turnsrv: %w", err)
	}
	return s.servePacket(l, worker)
}

// ServeDTLS is like ServePacket for clients that use DTLS 1.2, RFC 7350. If plain is true, it also serves clients that use UDP
// without DTLS; the first byte of a packet distinguishes them, RFC 7983. It uses the Certificates, GetCertificate and
// NextProtos of config. A client that offers only other protocols than NextProtos is refused; one that offers none is accepted.
func (s *Server) ServeDTLS(conn net.PacketConn, config *tls.Config, plain bool) error {
	worker := s.worker(conn)
	l, listener, err := link.NewDTLS(conn, config, plain, s.config.Logger, worker, s.shared.Counters)
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("turnsrv: %w", err)
	}
	var associations sync.WaitGroup
	associations.Go(func() { _ = s.serveStream(listener, worker) })
	err = s.servePacket(l, worker)
	_ = listener.Close()
	associations.Wait()
	return err
}

// servePacket serves a link, which is on a worker or has a goroutine of its own.
func (s *Server) servePacket(l link.Datagram, worker *loop.Loop) error {
	if err := s.begin(l); err != nil {
		_ = l.Discard()
		return err
	}
	defer s.served.Done()
	return s.end(l, l.Serve(session.New(s.shared, l, worker)))
}

// ServeStream serves the clients of a TCP listener, or of a listener made by NewTLSListener, until Close is called or the
// listener is closed. It takes ownership of listener and closes it. It returns ErrServerClosed after Close.
//
// Connections of other listeners are treated as TLS if they have the method HandshakeContext of tls.Conn. If they also have a
// method Encrypted() bool, it is called after the handshake to find out whether the connection is encrypted. Their addresses
// are read again after the handshake. Their ConnectionState, if they have that method, provides the server name for
// Config.Realms.
//
// A worker serves a connection after its handshake if it is a *net.TCPConn or a Conn over one, or a tls.Conn over a Conn. A
// connection of another type may wrap one of these and return it from a method NetConn, like that of tls.Conn. If it has read from the
// tls.Conn, its method Early() []byte returns what. All others are served by two goroutines each, which takes more than twice as much
// CPU time per packet.
//
// Connections are served by all workers in turn.
func (s *Server) ServeStream(listener net.Listener) error {
	first, others := s.allWorkers()
	return s.serveStream(listener, first, others...)
}

// serveStream serves the connections of listener on workers, or on goroutines if first is nil.
func (s *Server) serveStream(listener net.Listener, first *loop.Loop, others ...*loop.Loop) error {
	defer func() { _ = listener.Close() }()
	l := link.NewStreams(s.config.MaxStreams, first, s.shared.Counters)
	l.LimitHandshakes(s.handshakes)
	l.Listen(listener)
	if err := s.begin(l); err != nil {
		return err
	}
	defer s.served.Done()
	for _, worker := range others {
		l.Share(worker, func(share *link.Streams) link.Handler { return session.New(s.shared, share, worker) })
	}
	return s.end(l, l.Serve(listener, session.New(s.shared, l, first), func(err error) {
		s.shared.LogAccept(listener.Addr(), err, time.Now())
	}))
}

// worker returns the worker for conn, or nil if it is served by a goroutine.
func (s *Server) worker(conn net.PacketConn) *loop.Loop {
	if _, ok := conn.(*net.UDPConn); !ok {
		return nil
	}
	if w := s.started(); w != nil {
		return w.worker(conn.LocalAddr().String())
	}
	return nil
}

// allWorkers returns the workers, of which the first is nil if there are none.
func (s *Server) allWorkers() (first *loop.Loop, others []*loop.Loop) {
	if w := s.started(); w != nil && len(w.group.Loops()) > 0 {
		return w.group.Loops()[0], w.group.Loops()[1:]
	}
	return nil, nil
}

// started returns the workers, which it starts if necessary, or nil after Close.
func (s *Server) started() *workers {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.workers == nil {
		s.workers = newWorkers(s.config)
		if s.held {
			s.workers.group.Suspend()
		}
	}
	return s.workers
}

// begin registers a link, so that Close can close it.
func (s *Server) begin(l servedLink) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrServerClosed
	}
	if streams, ok := l.(*link.Streams); ok && s.held {
		_ = streams.Hold() // a listener that cannot wait accepts early
	}
	s.links[l] = struct{}{}
	s.served.Add(1)
	close(s.arrived)
	s.arrived = make(chan struct{})
	return nil
}

// end removes a link and returns the error of its Serve method.
func (s *Server) end(l servedLink, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, l)
	if s.closed {
		return ErrServerClosed
	}
	return err
}

// Shutdown refuses new allocations, with 300 if Config.Alternate returns another server and with 508 otherwise, and waits until all
// allocations have ended or ctx is done. Then it calls Close. It returns the error of ctx if allocations were still active.
func (s *Server) Shutdown(ctx context.Context) error {
	empty := s.shared.Drain()
	var cut error
	select {
	case <-empty:
	case <-ctx.Done():
		select {
		case <-empty: // no allocation is left, although ctx is done as well
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.workers != nil {
		s.workers.close()
		s.workers = nil
	}
	if s.kernel != nil {
		path := s.kernel
		s.kernel = nil
		return path.close()
	}
	return nil
}

// SetQuotas replaces Config.Quotas. Existing allocations are kept and subject to the new limits.
func (s *Server) SetQuotas(q limit.Quotas) { s.shared.SetQuotas(quotasWithDefaults(q)) }

// WithdrawFromKernel makes sockets relay what the kernel relays now. It is called after relay.Allocator.SetPeers, SetQuotas, or
// anything else that may forbid what was allowed. The kernel gets the channels back that are still in use and allowed.
func (s *Server) WithdrawFromKernel(ctx context.Context) error { return s.shared.WithdrawKernel(ctx) }

// SetExpiredGrace replaces Config.ExpiredGrace, including for existing allocations.
func (s *Server) SetExpiredGrace(grace time.Duration) {
	s.shared.SetExpiredGrace(cmp.Or(grace, DefaultExpiredGrace))
}

// SetDraining makes the server refuse new allocations with 300 or 508, as Shutdown does, or accept them again. Running calls go on.
func (s *Server) SetDraining(draining bool) {
	s.changes.RLock()
	defer s.changes.RUnlock()
	s.shared.Pause(draining)
}

// Sessions describes the live allocations, in no order. The goroutines that serve clients do so between packets.
func (s *Server) Sessions(ctx context.Context) ([]event.Allocation, error) {
	return s.shared.Inspect(ctx, nil)
}

// Disconnect ends the allocations for which match returns true, with both relayed addresses of a dual allocation, and returns
// them. Clients are not told: their next request is answered with 437. match is called on several goroutines, one at a time. It
// must not block.
func (s *Server) Disconnect(ctx context.Context, match func(event.Allocation) bool) ([]event.Allocation, error) {
	s.changes.RLock()
	defer s.changes.RUnlock()
	return s.shared.Inspect(ctx, match)
}

// Allocations returns the number of live allocations.
func (s *Server) Allocations() int { return s.shared.Allocations() }

// Counters returns a snapshot of the server's counters. It takes no lock that delays packets, so it can be called often.
func (s *Server) Counters() Counters {
	c := snapshot(s.shared.Counters)
	c.Allocations = s.Allocations()
	c.Workers.Panics = s.shared.Counters.Panics.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Kernel = s.kernelCounters()
	if s.workers != nil {
		for _, l := range s.workers.group.Loops() {
			c.Workers.Add(l.Counts())
		}
	}
	return c
}
