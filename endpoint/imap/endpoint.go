// Package imap is the IMAP endpoint: it listens, ends TLS, and joins each client to an IMAP server, one that is already
// there or the embedded one, through the filter that adds METADATA.
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
	"syscall"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

// An Endpoint serves IMAP clients. Start, Shutdown and Reload are for one goroutine.
type Endpoint struct {
	config       Config
	logger       *slog.Logger
	entries      serverEntries
	certificates *certs.Store
	tlsConfig    *tls.Config
	backend      backend // from Start on
	writeTimeout time.Duration

	listeners []net.Listener // fixed from Start on
	accepting sync.WaitGroup // the accept loops
	serving   sync.WaitGroup // the connections
	ctx       context.Context
	cancel    context.CancelFunc // ends dialling and handshakes

	outage    logLimit
	rejecting chan struct{} // a slot for each connection over a limit that is being told so

	mu              sync.Mutex
	draining        bool
	connections     int
	sessions        map[*session]struct{}
	unauthenticated map[netip.Prefix]int // by address
}

// maxRejecting bounds the connections over a limit that are told so at a time; further ones are just closed.
const maxRejecting = 64

// New prepares an endpoint: it reads the certificates and binds nothing.
func New(config Config, logger *slog.Logger) (*Endpoint, error) {
	store, err := certs.Load(config.TLS, logger)
	if err != nil {
		return nil, err
	}
	if config.TURN.Enable.V && len(config.TURN.Secrets.V) == 0 {
		return nil, errors.New("no secret to issue TURN credentials with")
	}
	return &Endpoint{
		config:          config,
		logger:          logger,
		entries:         serverEntries{config.Entries, config.TURN},
		certificates:    store,
		tlsConfig:       store.Config("imap"), // the ALPN protocol ID; clients without ALPN are accepted
		writeTimeout:    defaultWriteTimeout,
		rejecting:       make(chan struct{}, maxRejecting),
		sessions:        make(map[*session]struct{}),
		unauthenticated: make(map[netip.Prefix]int),
	}, nil
}

// Start binds every listening address and serves on all of them until Shutdown. When one cannot be bound, none stays
// bound, and the error names the address, its place in the configuration, and what to do.
func (e *Endpoint) Start(ctx context.Context) error {
	if err := e.listen(ctx); err != nil {
		return err
	}
	if err := e.openBackend(); err != nil {
		e.closeListeners()
		return err
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	for i, listener := range e.listeners {
		implicitTLS := e.config.Listen[i].Scheme == "tls"
		e.accepting.Go(func() { e.acceptLoop(listener, implicitTLS) })
		e.logger.Info("listening", "listen", e.config.Listen[i].Scheme+"://"+listener.Addr().String(), "backend", e.backend.String())
	}
	return nil
}

func (e *Endpoint) openBackend() (err error) {
	if e.config.Upstream != nil {
		e.backend, err = newUpstream(*e.config.Upstream)
		return err
	}
	users := make(map[string]string, len(e.config.Users))
	for name, secret := range e.config.Users {
		users[name] = string(secret.Bytes())
	}
	e.backend, err = newEmbedded(users, e.logger)
	return err
}

func (e *Endpoint) listen(ctx context.Context) error {
	for i, addr := range e.config.Listen {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr.HostPort())
		if err != nil {
			e.closeListeners()
			return fmt.Errorf("listen on %v%s: %w%s", addr, e.listenPlace(i), listenReason(err), listenHint(err))
		}
		e.listeners = append(e.listeners, listener)
	}
	return nil
}

// listenPlace is where the configuration has the listening address, if it has.
func (e *Endpoint) listenPlace(i int) string {
	if i >= len(e.config.ListenRanges) || e.config.ListenRanges[i].Filename == "" {
		return ""
	}
	return " (" + place(e.config.ListenRanges[i]) + ")"
}

// listenReason is err without the address, which the caller names.
func listenReason(err error) error {
	if opErr, ok := errors.AsType[*net.OpError](err); ok {
		return opErr.Err
	}
	return err
}

func listenHint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return ": another program has this port: stop it, or choose another port"
	case errors.Is(err, syscall.EACCES):
		return ": ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return ": this machine does not have the address: use one of its own, or 0.0.0.0 for all"
	default:
		return ""
	}
}

func (e *Endpoint) closeListeners() {
	for _, listener := range e.listeners {
		listener.Close()
	}
}

// Addrs returns the addresses that are bound, in the order of Config.Listen.
func (e *Endpoint) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(e.listeners))
	for i, listener := range e.listeners {
		addrs[i] = listener.Addr()
	}
	return addrs
}

// Reload reads the certificates again. Those that cannot be read keep their old value, and the error says why.
func (e *Endpoint) Reload() error { return e.certificates.Reload() }

// Shutdown stops accepting, says BYE to each client as soon as it waits for nothing, and when ctx is done closes the
// connections that are left. It returns when every goroutine of the endpoint has ended; the error is ctx's if
// connections had to be closed, else nil.
func (e *Endpoint) Shutdown(ctx context.Context) error {
	e.closeListeners()
	e.accepting.Wait()
	for _, s := range e.beginDrain() {
		s.drain()
	}
	done := make(chan struct{})
	go func() {
		e.serving.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = e.closeSessions(ctx)
		<-done
	}
	e.cancel()
	e.backend.close()
	return err
}

// beginDrain lets no further session begin and returns those there are.
func (e *Endpoint) beginDrain() []*session {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.draining = true
	return slices.Collect(maps.Keys(e.sessions))
}

// closeSessions cuts off what is left; it returns ctx's error if there was something.
func (e *Endpoint) closeSessions(ctx context.Context) error {
	e.mu.Lock()
	n := len(e.sessions)
	e.mu.Unlock()
	e.cancel()
	if n == 0 {
		return nil
	}
	e.logger.Warn("connections cut off by shutdown", "connections", n)
	return fmt.Errorf("close %d IMAP connections: %w", n, context.Cause(ctx))
}
