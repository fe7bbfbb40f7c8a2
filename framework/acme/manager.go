package acme

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// A Manager obtains the certificates of a process and renews them. Its methods are for one goroutine.
type Manager struct {
	logger *slog.Logger
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	settings Settings // those of running
	running  *run     // nil without settings
}

// NewManager returns a manager without certificates. lookup asks DNS for the addresses of a host, to explain refusals of an
// authority.
func NewManager(logger *slog.Logger, lookup func(ctx context.Context, host string) ([]netip.Addr, error)) *Manager {
	return &Manager{logger: logger, lookup: lookup}
}

// run is the work of a manager with one configuration.
type run struct {
	settings Settings
	logger   *slog.Logger
	lookup   func(ctx context.Context, host string) ([]netip.Addr, error)
	storage  *certmagic.FileStorage
	config   *certmagic.Config
	issuer   *certmagic.ACMEIssuer
	one      chan struct{} // holds a token while a certificate is requested: one at a time, because requests share a port
	terms    error         // why no account was registered; belongs to the holder of the token

	stop    context.CancelFunc
	keeping sync.WaitGroup
	cache   *certmagic.Cache
	wake    []chan struct{} // of each keeper
}

// Apply makes the manager maintain the certificates of s; nil means none. If the settings have not changed, it immediately retries
// what has failed. It does not wait for the authority.
func (m *Manager) Apply(s *Settings) {
	if s != nil && m.running != nil && reflect.DeepEqual(*s, m.settings) {
		for _, wake := range m.running.wake {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
		return
	}
	m.Stop()
	if s != nil {
		m.settings, m.running = *s, start(*s, m.logger, m.lookup)
	}
}

// Stop ends everything that Apply has started, including requests, and returns when it has ended.
func (m *Manager) Stop() {
	if m.running == nil {
		return
	}
	m.running.stop()
	m.running.keeping.Wait()
	m.running.cache.Stop()
	m.running = nil
}

func start(s Settings, logger *slog.Logger, lookup func(context.Context, string) ([]netip.Addr, error)) *run {
	r := &run{settings: s, logger: logger, lookup: lookup, one: make(chan struct{}, 1)}
	r.connect()
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	for _, name := range s.Names {
		k := &keeper{run: r, name: name, logger: logger.With("certificate", name), now: time.Now, wake: make(chan struct{}, 1)}
		r.wake = append(r.wake, k.wake)
		r.keeping.Go(func() { k.keep(ctx) })
	}
	return r
}
