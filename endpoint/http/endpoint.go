// Package http is the HTTP endpoint: it issues TURN credentials over the TURN REST API (draft-uberti-behave-turn-rest-00) and as
// ICE servers, and reports the state of the process to Prometheus and to load balancers.
package http

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailturn/mailturn/endpoint/http/page"
	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/framework/metrics"
	"github.com/mailturn/mailturn/framework/module"
	"github.com/mailturn/mailturn/framework/privacy"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// Bounds of a connection. A request and its answer are a few hundred bytes, so a client that needs longer is only occupying the
// connection.
const (
	readTimeout    = 10 * time.Second // of a request, its header included, and of a TLS handshake
	writeTimeout   = 30 * time.Second // from the end of the header to the end of the answer
	idleTimeout    = time.Minute      // between two requests
	maxHeaderBytes = 8 << 10          // to which net/http adds 4 KiB
	maxStreams     = 32               // of one HTTP/2 connection at a time
)

// A Process is the state of the rest of the program that the endpoint reports.
type Process struct {
	// Ready reports whether every endpoint has been started and none is shutting down. It is called concurrently.
	Ready func() bool
	// Health returns why running endpoints cannot serve, or nil. It is called concurrently, for each request to /readyz.
	Health func() error
	// Metrics are served at /metrics.
	Metrics prometheus.Gatherer
	// Sessions describes the allocations of all relays, for the page. It is called concurrently. nil stands for no relay.
	Sessions func(context.Context) ([]event.Allocation, error)
	// Mask masks the addresses and accounts in these, for the page.
	Mask *privacy.Mask
	// Warnings returns the last warnings and errors of the log, for the page. It is called concurrently. nil stands for none.
	Warnings func() []log.Line
	// Cluster describes the cluster of this machine for the page, nil if it is in none. It is called concurrently. nil stands for no cluster.
	Cluster func() *page.Cluster
}

// An Endpoint serves HTTP clients. Its exported methods, except those of its Collector, must not be called concurrently.
type Endpoint struct {
	logger  *slog.Logger
	certs   *certs.Store // nil without https://
	config  Config
	handler handler
	server  *http.Server

	tlsConfig *tls.Config // nil without https://

	listeners     []net.Listener // in the order of the configuration
	serving       sync.WaitGroup
	stopFollowing context.CancelFunc // the certificates and the metrics
}

// New returns an endpoint. It reads the certificates and binds no socket.
func New(c Config, process Process, logger *slog.Logger) (*Endpoint, error) {
	if err := c.checkSecret(); err != nil {
		return nil, err
	}
	present, err := newSettings(c)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{logger: logger, config: c}
	if c.listensEncrypted() {
		if e.certs, err = certs.Load(c.TLS, logger); err != nil {
			return nil, err
		}
		e.tlsConfig = e.certs.Config("h2", "http/1.1")
	}
	e.handler = handler{
		ready:    process.Ready,
		health:   process.Health,
		metrics:  metrics.Handler(process.Metrics, logger),
		logger:   logger,
		now:      time.Now,
		requests: newRequestCounter(),
	}
	e.handler.page = page.New(page.Source{
		Metrics: process.Metrics, Health: process.Health, Sessions: process.Sessions, Mask: process.Mask, Warnings: process.Warnings,
		Cluster: process.Cluster,
	}, logger, func() time.Time { return e.handler.now() })
	e.handler.settings.Store(present)
	e.server = &http.Server{
		Handler:           &e.handler,
		ConnContext:       withSecured,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: writeTimeout},
		// Otherwise net/http answers OPTIONS * itself, whatever its framing.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(logger.Handler(), slog.LevelDebug), // what strangers do wrong
	}
	return e, nil
}

// Start binds every listening address and serves on all of them until Shutdown. If one cannot be bound, none stays bound.
func (e *Endpoint) Start(ctx context.Context) error {
	limit := newConnLimit(&e.handler.settings, e.logger)
	for i, addr := range e.config.Listen {
		socket, err := e.open(ctx, addr)
		if err != nil {
			for _, l := range e.listeners {
				l.Close()
			}
			e.listeners = nil
			return listen.Error(addr, e.config.ListenRanges[i], err)
		}
		e.listeners = append(e.listeners, limit.listener(socket))
	}
	for i, l := range e.listeners {
		e.logger.Info("listening", "listen", e.config.Listen[i].Scheme+"://"+l.Addr().String())
		if e.config.Listen[i].Scheme == "https" {
			l = &tlsListener{l, e.tlsConfig}
		}
		e.serving.Go(func() {
			if err := e.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				e.logger.Error("listener ended", "err", err)
			}
		})
	}
	following, cancel := context.WithCancel(context.Background())
	e.stopFollowing = cancel
	e.serving.Go(func() { e.certs.Follow(following) })
	e.serving.Go(func() {
		e.handler.page.Follow(following, func() bool { return e.handler.settings.Load().access != nil })
	})
	return nil
}

// open opens the socket for an address, unless the port is shared.
func (e *Endpoint) open(ctx context.Context, addr listen.Addr) (net.Listener, error) {
	port := e.config.Shared.At(addr)
	if port == nil {
		return e.config.Sockets.ListenTCP(ctx, addr.HostPort())
	}
	return port.Listen(shared.Member{
		Protocol:     shared.HTTP,
		Certificates: func() *certs.Store { return e.certs },
		TLS:          func() *tls.Config { return e.tlsConfig },
	}), nil
}

// Addrs returns the addresses that are bound, in the order of Config.Listen.
func (e *Endpoint) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(e.listeners))
	for i, l := range e.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// checkSecret returns an error if credentials are to be issued and there is no secret for them.
func (c *Config) checkSecret() error {
	if !c.Issues() {
		return nil
	}
	return c.TURN.CheckSecret()
}

// Prepare implements module.Reloader. It reads the certificate files again; requests use the new configuration after Commit.
func (e *Endpoint) Prepare(c Config) (module.Change, error) {
	if err := c.checkSecret(); err != nil {
		return module.Change{}, err
	}
	present, err := newSettings(c)
	if err != nil {
		return module.Change{}, err
	}
	useCertificates, err := e.certs.Prepare(c.TLS)
	if err != nil {
		return module.Change{}, err
	}
	return module.Change{Commit: func() {
		useCertificates()
		e.handler.settings.Store(present)
		e.config = c
	}}, nil
}

// Shutdown stops accepting, lets requests in progress finish until ctx is done, and then closes the connections. It returns when
// every goroutine of the endpoint has ended.
func (e *Endpoint) Shutdown(ctx context.Context) error {
	err := e.server.Shutdown(ctx)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		e.logger.Info("connections cut off by the shutdown")
		err = e.server.Close()
	}
	e.stopFollowing()
	e.serving.Wait()
	return err
}

// Collector returns the metrics of the endpoint. It is safe for concurrent use.
func (e *Endpoint) Collector() prometheus.Collector { return e.handler.requests }
