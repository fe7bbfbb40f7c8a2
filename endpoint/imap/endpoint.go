// Package imap is the IMAP endpoint: it listens, terminates TLS, and joins each client to an IMAP server, an existing one or the
// embedded one, through the filter that adds METADATA.
package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/imap/patient"
	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/log"
)

// An Endpoint serves IMAP clients. Its exported methods must not be called concurrently, unless stated otherwise.
type Endpoint struct {
	logger     *slog.Logger
	entries    liveEntries
	quietAfter time.Duration
	lobby      patient.Lobby // where sides of sessions wait that are quiet

	listeners []*listener    // in the order of the configuration
	accepting sync.WaitGroup // the accept loops
	serving   sync.WaitGroup // connections, and the closing of replaced generations
	ctx       context.Context
	cancel    context.CancelFunc // ends dialling and handshakes

	outage log.Limit
	// unidentified limits log lines about upstreams that do not support ClientAddressID.
	unidentified log.Limit
	retired      atomic.Bool   // another process serves: see StopIssuing
	rejecting    chan struct{} // a slot for each connection that is being turned away with a BYE
	credentials  atomic.Uint64 // responses with a credential, for the metrics

	mu              sync.Mutex
	present         *generation // written only by the goroutine of the exported methods, which may read it without mu
	draining        bool
	connections     int
	sessions        map[*session]struct{}
	unauthenticated map[netip.Prefix]int // by limit.Host and limit.Network
}

// maxRejecting bounds how many connections are refused with a BYE at a time, which may cost a handshake: see turnAway.
const maxRejecting = 64

// New returns an endpoint. It reads the certificates and binds no socket.
func New(config Config, logger *slog.Logger) (*Endpoint, error) {
	first, err := newGeneration(config, logger)
	if err != nil {
		return nil, err
	}
	return &Endpoint{
		logger:          logger,
		present:         first,
		quietAfter:      defaultQuietAfter,
		rejecting:       make(chan struct{}, maxRejecting),
		sessions:        make(map[*session]struct{}),
		unauthenticated: make(map[netip.Prefix]int),
	}, nil
}

// Start binds every listening address and serves on all of them until Shutdown. If one cannot be bound, none stays bound, and the
// error names the address, its place in the configuration, and what to do.
func (e *Endpoint) Start(ctx context.Context) error {
	listeners, _, err := e.bind(ctx, &e.present.config)
	if err != nil {
		return err
	}
	if err := e.present.openBackend(nil, e.logger); err != nil {
		e.closeForGood(listeners)
		return err
	}
	e.entries.set(&e.present.config)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.listeners = listeners
	e.follow(e.present)
	e.accept(listeners)
	return nil
}

// accept starts serving on new listeners.
func (e *Endpoint) accept(opened []*listener) {
	for _, l := range opened {
		e.logger.Info("listening", "listen", l.addr.Scheme+"://"+l.Addr().String(), "backend", e.present.backend.String())
		e.accepting.Go(func() { listen.Serve(l, e.logger, func(conn net.Conn) { e.admit(conn, l) }) })
	}
}

// bind returns a listener for each address of the configuration: existing ones, and those that it opens. After an error it has
// closed the latter.
func (e *Endpoint) bind(ctx context.Context, config *Config) (listeners, opened []*listener, err error) {
	for i, addr := range config.Listen {
		k := slices.IndexFunc(e.listeners, func(l *listener) bool { return l.serves(addr) && !slices.Contains(listeners, l) })
		if k >= 0 {
			listeners = append(listeners, e.listeners[k])
			continue
		}
		socket, err := e.open(ctx, config, addr)
		if err != nil {
			e.closeForGood(opened)
			if errors.Is(err, syscall.EADDRINUSE) && slices.ContainsFunc(e.listeners, func(l *listener) bool { return l.addr.Port == addr.Port }) {
				return nil, nil, fmt.Errorf("listen on %v: this endpoint uses the port on other addresses until the change is made: restart instead", addr)
			}
			return nil, nil, listen.Error(addr, config.listenRange(i), err)
		}
		l := &listener{socket, addr}
		listeners, opened = append(listeners, l), append(opened, l)
	}
	return listeners, opened, nil
}

// open opens the socket for an address, unless the port is shared.
func (e *Endpoint) open(ctx context.Context, config *Config, addr listen.Addr) (net.Listener, error) {
	port := config.Shared.At(addr)
	if port == nil {
		return config.Sockets.Listen(ctx, addr.HostPort())
	}
	return port.Listen(shared.Member{
		Protocol:     shared.IMAP,
		Certificates: func() *certs.Store { return e.generation().certs },
		TLS:          func() *tls.Config { return e.generation().tlsConfig },
	}), nil
}

// generation returns the present one. It is safe for concurrent use.
func (e *Endpoint) generation() *generation {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.present
}

// serves reports whether the socket is the one for addr. If the system chose the port, the scheme has to be the same.
func (l *listener) serves(addr listen.Addr) bool {
	return l.addr == addr || l.addr.HostPort() == addr.HostPort() && addr.Port != 0
}

// listenRange returns the place of a listening address in the configuration, if there is one.
func (c *Config) listenRange(i int) hcl.Range {
	if i >= len(c.ListenRanges) {
		return hcl.Range{}
	}
	return c.ListenRanges[i]
}

// closeListeners stops accepting. Sockets that the service manager keeps are for the next process.
func closeListeners(listeners []*listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// closeForGood closes listeners that the next process must not inherit.
func (e *Endpoint) closeForGood(listeners []*listener) {
	for _, l := range listeners {
		if e.present.config.Shared.At(l.addr) == nil {
			e.present.config.Sockets.Forget(l.addr.HostPort())
		}
		l.Close()
	}
}

// Addrs returns the bound addresses, in the order of Config.Listen.
func (e *Endpoint) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(e.listeners))
	for i, l := range e.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// Health returns why clients cannot be connected to the IMAP server, or nil. It is safe for concurrent use.
func (e *Endpoint) Health() error {
	if err := e.generation().backend.Health(); err != nil {
		return fmt.Errorf("backend cannot be reached: %w", err)
	}
	return nil
}

// Shutdown stops accepting, without closing the sockets that Config.Sockets keeps for the next process. It sends BYE to each client
// as soon as it is not waiting for anything, and closes the remaining connections when ctx is done. It returns nil when every
// goroutine of the endpoint has ended.
func (e *Endpoint) Shutdown(ctx context.Context) error {
	closeListeners(e.listeners)
	e.accepting.Wait()
	e.present.stopFollowing()
	for _, s := range e.beginDrain() {
		s.drain()
	}
	done := make(chan struct{})
	go func() {
		e.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		e.closeSessions()
		<-done
	}
	e.cancel()
	e.lobby.Close()
	e.present.backend.Close()
	return nil
}

// beginDrain keeps new sessions from starting and returns the running ones.
func (e *Endpoint) beginDrain() []*session {
	e.mu.Lock()
	e.draining = true
	e.mu.Unlock()
	return e.runningSessions()
}

// runningSessions returns the sessions in no order.
func (e *Endpoint) runningSessions() []*session {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Keys(e.sessions))
}

// closeSessions closes the remaining connections. beginDrain must have been called.
func (e *Endpoint) closeSessions() {
	sessions := e.runningSessions()
	e.cancel()
	for _, s := range sessions {
		go s.cut() // to close TLS to a server that reads nothing may take seconds
	}
	if len(sessions) > 0 {
		e.logger.Info("connections cut off by the shutdown", "connections", len(sessions))
	}
}
