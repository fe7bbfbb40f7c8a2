package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/holders"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/ledger"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/rotation"
	"github.com/mailturn/mailturn/endpoint/http"
	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/endpoint/turn/pion"
	"github.com/mailturn/mailturn/framework/acme"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/handoff"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/framework/metrics"
	"github.com/mailturn/mailturn/framework/module"
	"github.com/mailturn/mailturn/framework/privacy"
	"github.com/mailturn/mailturn/framework/sysctl"
	"github.com/mailturn/mailturn/framework/systemd"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// service is a running setup. Only the goroutine of serve may use it, unless stated otherwise.
type service struct {
	logger *slog.Logger
	level  *slog.LevelVar // of logger
	setup  *setup
	// calls are the relays. They start first and stop first: while they wait for calls to end, everything else continues.
	calls   module.Group
	group   module.Group
	running map[string]module.Endpoint // by the String of its part; read-only after newService
	stale   error                      // why the last reload has changed nothing; nil if it has, or there was none
	loaded  time.Time                  // when the configuration in force was loaded
	// levels are the log levels of the endpoints, by the String of their parts; read-only after newService.
	levels   map[string]*log.Switch
	stopping bool

	authority *acme.Manager // of certificates; it has no part in serving

	accounts credential.Accounts // outlives reloads: credentials do
	sockets  *handoff.Sockets
	// listeners are those of IMAP, which the service manager keeps, too.
	listeners *systemd.Listeners
	bans      bans
	record    *holders.Record // from start on; nil without a state directory
	privacy   *privacy.Mask
	book      *ledger.Book
	member    member

	// ports are those that several endpoints share. They accept connections only after all endpoints have started.
	ports shared.Ports

	// watch are the HTTP endpoints. They start last and stop last, so that load balancers see the others drain.
	watch module.Group
	ready atomic.Bool // read by the HTTP endpoints
	// draining is set while an operator has new calls refused.
	draining   atomic.Bool
	alternates *issuer.Alternates
	look       background // of followAlternates, during a drain
	// names is setup.names, for other goroutines.
	names atomic.Pointer[issuer.AccountNames]
	// unhealthy is the last result of health.
	unhealthy atomic.Bool
	reloaded  prometheus.Gauge
}

// newService builds the endpoints, which follow those of another process if successor is set. A reload sets level, which is the
// logger's.
func newService(s *setup, manager systemd.Manager, sockets *handoff.Sockets, successor bool, logger *slog.Logger, level *slog.LevelVar) (*service, error) {
	listeners := systemd.Inherit(manager, sockets, logger)
	recent := new(log.Recent)
	mask := privacy.New(s.privacy)
	logger = mask.Logger(recent.Logger(logger))
	r := &service{
		logger: logger, level: level, setup: s, sockets: sockets, listeners: listeners, running: make(map[string]module.Endpoint),
		levels: make(map[string]*log.Switch), alternates: issuer.NewAlternates(), privacy: mask,
		authority: acme.NewManager(logger, lookUp),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mailturn_config_reload_success_timestamp_seconds",
			Help: "When the configuration in force was loaded, in seconds since the Unix epoch.",
		}),
	}
	r.names.Store(&s.names)
	registry := metrics.NewRegistry()
	registry.MustRegister(r.reloaded, versionMetric(), sysctl.ConntrackCollector(sysctl.System()))
	s.process = http.Process{Ready: r.isReady, Health: r.health, Metrics: registry, Sessions: r.sessions, Mask: mask, Warnings: recent.Lines, Cluster: r.member.page}
	var usageAt string
	if s.stateDir != "" {
		usageAt = filepath.Join(s.stateDir, usageDir)
	}
	r.book = ledger.New(usageAt, mask.AccountOn, logger)
	r.bans.accounts = &r.accounts
	r.bans.load(s.stateDir, logger)
	r.member.join(s.cluster, r.refuses, logger)
	r.member.keeper = r.keeper()
	r.member.exchange = r.exchange()
	if limits := cluster.NewLimits(r.member.directory, r.member.incarnation); limits != nil {
		r.member.limits = &sharedLimits{Limits: limits, book: r.book}
	}
	registry.MustRegister(clusterCollector{r.member.directory})
	r.share(s)
	r.ports = s.newPorts(logger)
	registry.MustRegister(shared.Collector{Ports: r.ports})
	s.sharePorts(r.ports)
	for i := range s.relays {
		s.relays[i].Successor = successor
	}
	for _, p := range s.parts() {
		level := new(log.Switch)
		r.levels[p.String()] = level
		endpoint, err := p.Build(level.Logger(logger))
		if err != nil {
			return nil, fmt.Errorf("%v: %w", p, err)
		}
		r.running[p.String()] = endpoint
		if measured, ok := endpoint.(interface{ Collector() prometheus.Collector }); ok {
			metrics.ForEndpoint(registry, p.Name()).MustRegister(measured.Collector())
		}
		if certified, ok := endpoint.(interface{ CertificateEnds() map[string]time.Time }); ok {
			kind := prometheus.Labels{"kind": p.Kind()} // two kinds may have endpoints of one name
			prometheus.WrapRegistererWith(kind, metrics.ForEndpoint(registry, p.Name())).MustRegister(certs.Collector(certified.CertificateEnds))
		}
		_, watches := endpoint.(*http.Endpoint)
		switch {
		case isRelay(endpoint):
			if relay, ok := endpoint.(controllable); ok && r.member.relay == nil && p.Name() == s.relays[0].Name {
				r.member.relay = relay
			}
			r.calls.Add(p.String(), endpoint)
		case watches:
			r.watch.Add(p.String(), endpoint)
		default:
			r.group.Add(p.String(), endpoint)
		}
	}
	return r, nil
}

// sessions describes the allocations of all relays with mailturn's own engine. It is safe for concurrent use.
func (r *service) sessions(ctx context.Context) (all []event.Allocation, err error) {
	var errs []error
	for _, endpoint := range r.running {
		if relay, ok := endpoint.(controllable); ok {
			some, err := relay.Sessions(ctx)
			all, errs = append(all, some...), append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

// share gives the configurations of the endpoints what they share with each other and with the rest of the service.
func (r *service) share(s *setup) {
	s.share(&r.accounts, &r.bans.list, r.listeners, r.sockets, r.member.directory, r.member.keeper.Ring())
	r.member.fixed.Store(s.announcement())
	secrets := s.secrets()
	r.member.secrets.Store(&secrets)
	r.member.keeper.Configure(rotation.Settings{Lifetime: s.longestTTL(), Every: s.cluster.Block.SecretRotation.V})
	r.member.allowsUpgrade.Store(s.cluster.Block.AllowUpgrade.V)
	for _, c := range s.issuers() {
		c.Draining = &r.draining
	}
	if len(s.relays) > 0 {
		r.alternates.Set(s.issuers(), s.relays[0].Secrets, r.member.keeper.Ring())
	}
	for i := range s.relays {
		s.relays[i].Alternates, s.relays[i].Meter = r.alternates, r.book
		name := s.relays[i].Name
		s.relays[i].OnEvent = func(e event.Event) { r.record.Add(name, e) }
	}
	if limits := r.member.limits; limits != nil && len(s.relays) > 0 {
		limits.bytes.Store(s.relays[0].UserBytesPerDay > 0)
		s.relays[0].Meter, s.relays[0].Holdings = limits, limits
	}
}

// isRelay reports whether an endpoint is a TURN endpoint, with either engine.
func isRelay(endpoint module.Endpoint) bool {
	switch endpoint.(type) {
	case *turn.Endpoint, *pion.Endpoint:
		return true
	}
	return false
}

// isReady reports whether new clients are welcome. It is safe for concurrent use.
func (r *service) isReady() bool { return r.ready.Load() && !r.draining.Load() }

// The directories of the record and of what accounts have relayed, in the state directory.
const (
	recordDir = "holders"
	usageDir  = "usage"
)

// countUsage has what accounts relay counted as s says.
func (r *service) countUsage(s *setup) {
	limited := slices.ContainsFunc(s.relays, func(c turn.Config) bool { return c.UserBytesPerDay > 0 })
	r.book.Configure(s.control.Usage.V, limited)
}

// start starts the endpoints. If one fails, none is left running.
func (r *service) start(ctx context.Context) (err error) {
	r.fetchSecrets(ctx)
	r.countUsage(r.setup)
	r.book.Start()
	defer func() {
		if err != nil {
			r.book.Close()
		}
	}()
	if r.setup.stateDir != "" {
		r.record = holders.Open(filepath.Join(r.setup.stateDir, recordDir), r.masked, r.logger)
		r.record.SetKeep(r.setup.control.Record.V)
		defer func() {
			if err != nil {
				r.record.Close()
			}
		}()
	}
	if err := r.ports.Open(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			r.ports.StopAccepting()
		}
	}()
	if err := r.calls.Start(ctx); err != nil {
		return err
	}
	if err := r.group.Start(ctx); err != nil {
		return errors.Join(err, r.calls.Shutdown(ctx))
	}
	r.listeners.ForgetUnused()
	r.ready.Store(true)
	r.loaded = time.Now()
	r.reloaded.SetToCurrentTime()
	if err := r.watch.Start(ctx); err != nil {
		return errors.Join(err, r.group.Shutdown(ctx), r.calls.Shutdown(ctx))
	}
	return nil
}

// followed closes the sockets of the process before that no endpoint uses. It returns an error if calls depend on one of them.
func (r *service) followed() error {
	for _, name := range r.sockets.Unused() {
		if turn.IsSocketName(name) {
			return fmt.Errorf("the socket %s is no longer in the configuration, which requires a restart", name)
		}
		r.logger.Info("no longer listening", "socket", name)
	}
	return nil
}

// begin does what only one process may do: the one that serves.
func (r *service) begin() {
	r.ports.Serve()
	r.authority.Apply(r.setup.acme)
	r.member.start()
}

// shutdown stops what start has started. It takes at most drain and the time that endpoints then need to end the rest.
func (r *service) shutdown(drain time.Duration) error {
	r.ready.Store(false)
	r.setDraining(true)
	defer r.look.stop()
	r.authority.Stop()
	defer r.record.Close()
	defer r.book.Close()
	defer r.rememberBanned() // after the last credential was issued
	defer r.member.stop()
	within := func(limit time.Duration, shutdown func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		return shutdown(ctx)
	}
	return errors.Join(
		within(drain+stopReserve, r.calls.Shutdown),
		within(stopReserve, r.settle),
		within(stopReserve, r.stopGroup),
		within(stopReserve, r.watch.Shutdown),
	)
}

// settle closes the shared ports. Clients that are about to say what they want still reach an endpoint.
func (r *service) settle(ctx context.Context) error {
	r.ports.StopAccepting()
	r.ports.Settle(ctx)
	return nil
}

// stopGroup stops the endpoints of group, and the shared ports.
func (r *service) stopGroup(ctx context.Context) error {
	var stopping sync.WaitGroup
	stopping.Go(func() { r.ports.Shutdown(ctx) })
	defer stopping.Wait()
	return r.group.Shutdown(ctx)
}

// rememberBanned stores the user names that banned accounts were issued since. It is safe for concurrent use.
func (r *service) rememberBanned() {
	if err := r.bans.remember(&r.accounts); err != nil {
		r.logger.Error("after a restart, bans will not hold for the latest credentials of their accounts", "err", err)
	}
}

// health returns why endpoints cannot serve, and logs the beginning and the end of that. It is safe for concurrent use.
func (r *service) health() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(r.running)) {
		if checker, ok := r.running[name].(module.HealthChecker); ok {
			if err := checker.Health(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	err := errors.Join(errs...)
	switch was := r.unhealthy.Swap(err != nil); {
	case err != nil && !was:
		r.logger.Warn("not ready", "err", err)
	case err == nil && was:
		r.logger.Info("ready again")
	}
	return err
}

// reload reads the configuration again, applies it, and returns the names of what has changed in it. One that does not load, or that
// changes what requires a restart, changes nothing, and is returned as an error.
func (r *service) reload(again func() (*setup, error)) (changes []string, err error) {
	s, err := again()
	if err == nil {
		changes = r.setup.file.Changes(s.file)
		err = s.prepareAndSay(r.logger)
	}
	if err == nil {
		err = r.apply(s)
	}
	r.stale = err
	switch {
	case errors.Is(err, errReported):
		r.logger.Error("configuration not reloaded: it has errors, the old one stays in force")
	case err != nil:
		r.logger.Error("configuration not reloaded: the old one stays in force", "err", err)
	default:
		r.logger.Info("reloaded", "changed", strings.Join(changes, "; "))
	}
	return changes, err
}

// status returns one line that says what serves, and whether the configuration in force is that of the file.
func (r *service) status() string {
	serving := "Serving " + join(r.setup.parts(), ", ")
	switch {
	case errors.Is(r.stale, errReported):
		return "Configuration not reloaded: it has errors, see the log. " + serving + " with the old one"
	case r.stale != nil:
		return "Configuration not reloaded: " + strings.ReplaceAll(r.stale.Error(), "\n", "; ") + ". " + serving + " with the old one"
	default:
		return serving
	}
}

// apply applies the configuration s to the endpoints. On an error all continue unchanged.
func (r *service) apply(s *setup) error {
	var errs []error
	for _, name := range config.NeedsRestart(config.Log{}, r.setup.log, s.log) {
		errs = append(errs, fmt.Errorf("a change of log.%s requires a restart", name))
	}
	for _, name := range config.NeedsRestart(config.Control{}, r.setup.control, s.control) {
		errs = append(errs, fmt.Errorf("a change of control.%s requires a restart", name))
	}
	for _, name := range cluster.NeedsRestart(r.setup.cluster, s.cluster) {
		errs = append(errs, fmt.Errorf("a change of %s requires a restart", name))
	}
	errs = append(errs, shared.NeedsRestart(r.setup.ports, s.ports))
	if err := errors.Join(errors.Join(errs...), module.NeedsRestart(r.setup.parts(), s.parts())); err != nil {
		return err
	}
	r.share(s)
	s.sharePorts(r.ports)
	if err := module.Reload(r.running, s.parts()); err != nil {
		return err
	}
	r.ports.Apply(s.ports)
	r.setup = s
	r.names.Store(&s.names)
	r.authority.Apply(s.acme)
	r.member.directory.Apply(s.cluster)
	r.record.SetKeep(s.control.Record.V)
	r.countUsage(s)
	r.level.Set(s.logLevel)
	r.privacy.Apply(s.privacy)
	r.loaded = time.Now()
	r.reloaded.SetToCurrentTime()
	return nil
}
