package imap

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"sync"

	"github.com/mailturn/mailturn/endpoint/imap/backend"
	"github.com/mailturn/mailturn/endpoint/imap/embedded"
	"github.com/mailturn/mailturn/endpoint/imap/upstream"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/module"
)

// A generation is the state made from one configuration. A connection keeps the generation that it started with.
type generation struct {
	config    Config
	certs     *certs.Store
	tlsConfig *tls.Config
	backend   backend.Server // from openBackend on

	stopFollowing context.CancelFunc // of the certificates, from follow on

	connections sync.WaitGroup // that have begun with it; counted up under Endpoint.mu, while it is the present one
}

// newGeneration reads the certificates, and checks what the caller of Decode has to add.
func newGeneration(config Config, logger *slog.Logger) (*generation, error) {
	store, err := certs.Load(config.TLS, logger)
	if err != nil {
		return nil, err
	}
	if config.TURN.Enable.V {
		if err := config.TURN.CheckSecret(); err != nil {
			return nil, err
		}
	}
	tlsConfig := store.Config("imap") // the ALPN protocol ID; clients without ALPN are accepted
	// Small initial records help clients that start rendering while a page arrives. Mail clients do not.
	tlsConfig.DynamicRecordSizingDisabled = true
	return &generation{config: config, certs: store, tlsConfig: tlsConfig}, nil
}

// follow watches the files of the generation's certificates until g.stopFollowing is called.
func (e *Endpoint) follow(g *generation) {
	ctx, cancel := context.WithCancel(context.Background())
	g.stopFollowing = cancel
	e.serving.Go(func() { g.certs.Follow(ctx) })
}

// openBackend creates the generation's backend. The embedded server takes over the mailboxes of the previous one, if not nil.
func (g *generation) openBackend(previous backend.Server, logger *slog.Logger) (err error) {
	if g.config.Upstream != nil {
		g.backend, err = upstream.New(*g.config.Upstream, logger)
		return err
	}
	before, _ := previous.(*embedded.Server)
	g.backend, err = embedded.New(g.config.Users, before, logger)
	return err
}

// Prepare implements module.Reloader. It reads the files and binds the sockets that the new configuration needs.
//
// Connections accepted after Commit have the new configuration; earlier ones keep theirs, and its IMAP server, until they end.
// Sockets on addresses that are in both stay open and drop no connection. Annotations and the settings of TURN credentials change
// for all connections, so the relay has to accept a new secret before Commit. Certificates are read again even if their names are
// the same, and the embedded server's mailboxes stay with their users.
func (e *Endpoint) Prepare(config Config) (module.Change, error) {
	next, err := newGeneration(config, e.logger)
	if err != nil {
		return module.Change{}, err
	}
	listeners, opened, err := e.bind(e.ctx, &next.config)
	if err != nil {
		return module.Change{}, err
	}
	if err := next.openBackend(e.present.backend, e.logger); err != nil {
		e.closeForGood(opened)
		return module.Change{}, err
	}
	return module.Change{
		Commit: func() { e.replace(next, listeners, opened) },
		Discard: func() {
			next.backend.Close()
			e.closeForGood(opened)
		},
	}, nil
}

// replace puts next in force, with listeners, of which opened are new.
func (e *Endpoint) replace(next *generation, listeners, opened []*listener) {
	previous := e.present
	e.entries.set(&next.config)
	e.mu.Lock()
	e.present = next
	for i, l := range listeners {
		l.addr = next.config.Listen[i]
	}
	e.mu.Unlock()
	for _, l := range e.listeners {
		if !slices.Contains(listeners, l) {
			e.logger.Info("no longer listening", "listen", l.addr.Scheme+"://"+l.Addr().String())
			e.closeForGood([]*listener{l})
		}
	}
	e.listeners = listeners
	e.accept(opened)
	e.follow(next)
	previous.stopFollowing()
	e.serving.Go(func() {
		previous.connections.Wait()
		previous.backend.Close()
	})
}
