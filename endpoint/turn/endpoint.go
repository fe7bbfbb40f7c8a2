// Package turn is the TURN endpoint: it decodes its configuration, opens the sockets for UDP, DTLS, TCP and TLS, and passes them to
// turnsrv, which implements the protocol.
package turn

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/endpoint/turn/portfile"
	"github.com/mailturn/mailturn/endpoint/turn/publicip"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// Endpoint is a TURN endpoint. Its methods are not safe for concurrent use, except Counters, Health, SetDraining,
// Sessions and Disconnect.
type Endpoint struct {
	config Config // Reload replaces it under policyMu
	logger *slog.Logger
	certs  *certs.Store // nil without TLS

	secrets     *secrets
	newEngine   func(turnsrv.Config) (Engine, error)
	engine      Engine                         // nil before Start
	server      atomic.Pointer[turnsrv.Server] // the engine, if it is one; nil before Start
	allocator   *relay.Allocator
	ports       *portfile.File // nil without a state directory
	forgetPorts *time.Timer    // nil if the file has none to forget
	uses        portUses
	addresses   []relay.Address // guarded by policyMu after Start
	sockets     []Socket
	serving     sync.WaitGroup
	stopped     atomic.Bool // Shutdown was called
	refusals    log.Limit   // of lines about proxies without a header

	localPrefixes  func() ([]netip.Prefix, error) // of this machine
	watchLocal     func() (localWatch, error)     // tells when they change
	lookupNAT64    func(context.Context) ([]netip.Addr, error)
	tryBind        func(netip.Addr) error
	finder         *publicip.Finder    // nil if the configuration has the addresses
	sourcesFail    bool                // of finder; owned by Start, and then by followAddresses
	addressChanges atomic.Uint64       // how often addresses has changed
	policyMu       sync.Mutex          // held while the policy is replaced
	policy         *peer.Policy        // in force; guarded by policyMu
	nat64          []netip.Prefix      // of this network; guarded by policyMu
	missing        map[netip.Addr]bool // relay_ip of each address that the machine has lost; guarded by policyMu
	stopFollowing  context.CancelFunc  // of followAddresses and of the certificates
}

// New returns an endpoint for a decoded configuration, which must have secrets, and certificates if it listens with TLS. It reads
// the certificates and opens no socket.
func New(c Config, logger *slog.Logger) (*Endpoint, error) {
	return NewOn(c, nil, newServer, logger)
}

// NewOn is New with another engine, and with open sockets, unless they are nil.
func NewOn(c Config, sockets []Socket, engine func(turnsrv.Config) (Engine, error), logger *slog.Logger) (*Endpoint, error) {
	e := &Endpoint{config: c, logger: logger, newEngine: engine, sockets: sockets, secrets: new(secrets), localPrefixes: peer.LocalPrefixes, lookupNAT64: lookupNAT64, tryBind: tryBind}
	e.watchLocal = func() (localWatch, error) { return peer.WatchLocal() }
	verifier, err := newVerifier(c)
	if err != nil {
		return nil, err
	}
	e.secrets.verifier.Store(verifier)
	if c.listensEncrypted() {
		if e.certs, err = certs.Load(c.TLS, logger); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Start binds the sockets and serves on them until Shutdown.
func (e *Endpoint) Start(ctx context.Context) error {
	addresses, err := e.findAddresses(ctx)
	if err != nil {
		return err
	}
	policy, err := e.peerPolicy(e.config, addresses)
	if err != nil {
		return err
	}
	e.announce(addresses, policy)
	if e.sockets == nil {
		if e.sockets, err = Open(ctx, e.config); err != nil {
			return err
		}
	}
	if err := e.keepSockets(); err != nil {
		return errors.Join(err, closeAll(e.sockets))
	}
	var ports *portfile.File
	var rest relay.Rest
	if e.uses.held = e.config.Successor; e.config.Successor {
		rest = e.restOf(time.Now())
	} else {
		ports, rest = e.openPorts(time.Now())
	}
	e.uses.file = ports
	allocator, err := relay.New(relay.Config{
		Addresses: addresses, Changing: e.finder != nil, MinPort: e.config.RelayPorts.V.Min, MaxPort: e.config.RelayPorts.V.Max, Peers: policy,
		Rest: rest, OnUse: e.uses.use,
	})
	if err != nil {
		return errors.Join(err, closeAll(e.sockets), ports.Close())
	}
	engine, err := e.newEngine(e.serverConfig(allocator, ports.NonceKey()))
	if err != nil {
		return errors.Join(err, closeAll(e.sockets), allocator.Close(), ports.Close())
	}
	e.ports = ports
	if ports != nil && len(rest.Ports) > 0 {
		e.forgetPorts = time.AfterFunc(time.Until(rest.Until), ports.Forget)
	}
	for _, address := range e.config.Listen {
		e.logger.Info("listening", "listen", address.String())
	}
	for _, s := range e.sockets {
		if s.alone != nil {
			e.logger.Warn("one worker serves all clients of an address, because the system cannot distribute them", "listen", s.Address.String(),
				"err", s.alone)
		}
	}
	e.allocator, e.addresses, e.engine, e.policy = allocator, addresses, engine, policy
	if server, ok := engine.(*turnsrv.Server); ok {
		e.server.Store(server)
	}
	for _, s := range e.sockets {
		serve := e.serve(engine, s)
		e.serving.Go(func() {
			if err := serve(); err != nil && !e.stopped.Load() {
				e.logger.Error("listener ended", "err", err)
			}
		})
	}
	following, cancel := context.WithCancel(context.Background())
	e.stopFollowing = cancel
	watch, err := e.watchLocal()
	if err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			e.logger.Warn("new addresses of this machine will be noticed late", "err", err)
		}
		watch = nil
	}
	e.serving.Go(func() { e.followAddresses(following, watch) })
	e.serving.Go(func() { e.certs.Follow(following) })
	return nil
}

// serverConfig returns the configuration of the protocol.
func (e *Endpoint) serverConfig(allocator *relay.Allocator, nonceKey []byte) turnsrv.Config {
	c := &e.config
	var alternate func(account string, tuple event.FiveTuple) (netip.AddrPort, string, bool)
	if c.Alternates != nil {
		alternate = c.Alternates.For
	}
	return turnsrv.Config{
		Realm:               c.Realm,
		Realms:              c.realms(),
		Authenticator:       e.secrets,
		Relay:               allocator,
		DefaultFamily:       relay.DefaultFamily(c.DefaultFamily),
		Lifetime:            min(turnsrv.DefaultLifetime, c.MaxLifetime.V),
		MaxLifetime:         c.MaxLifetime.V,
		NonceLifetime:       c.NonceLifetime.V,
		NonceKey:            nonceKey,
		ExpiredGrace:        orNone(c.ExpiredGrace),
		Quotas:              c.quotas(),
		MaxStreams:          c.MaxStreams,
		Workers:             c.WorkerCount(),
		Gather:              orNone(c.Gather),
		NoSegment:           !c.UDPSegment,
		NoCoalesce:          !c.UDPGRO,
		KernelPath:          turnsrv.KernelPath(c.KernelPath),
		StrictChannels:      c.StrictChannels,
		UnauthenticatedRate: orNone(c.UnauthenticatedRate),
		MaxGuesses:          orNone(c.MaxGuesses),
		SilentPeerBytes:     orNone(c.Peers.SilentBytes),
		Software:            c.Software.V,
		LogGuesses:          c.LogGuesses,
		Alternate:           alternate,
		Bans:                c.Bans,
		Meter:               c.Meter,
		Holdings:            c.Holdings,
		Successor:           c.Successor,
		OnEvent:             c.OnEvent,
		Logger:              e.logger,
	}
}

// quotas returns the quotas, which a reload can change.
func (c *Config) quotas() limit.Quotas {
	return limit.Quotas{
		MaxAllocations: c.TotalQuota, MaxAllocationsPerUser: c.UserQuota, MaxAllocationsPerSource: c.SourceQuota,
		MaxCallsPerUser: c.UserCalls, MaxBytesPerUserPerDay: c.UserBytesPerDay, MaxBPS: c.MaxBPS, MaxTotalBPS: c.TotalBPS, MaxPPS: c.MaxPPS, MaxPPSPerUser: c.UserPPS,
		MaxPermissions: c.MaxPermissions, MaxChannels: c.MaxChannels,
	}
}

// announce logs the addresses of the relay, and what may be wrong with them.
func (e *Endpoint) announce(addresses []relay.Address, policy *peer.Policy) {
	for _, address := range addresses {
		e.logger.Info("relay", "relay_ip", address.Advertise, "relay_bind", address.Bind,
			"min_port", e.config.RelayPorts.V.Min, "max_port", e.config.RelayPorts.V.Max, "realm", e.config.Realm)
		e.warnAddress(address.Advertise)
	}
	if reachesLoopback(policy) && !e.config.onLoopback() {
		e.logger.Warn("users of the relay can reach services on this machine: peers allows loopback addresses")
	}
}

// warnAddress logs why peers may not reach an address of the relay.
func (e *Endpoint) warnAddress(addr netip.Addr) {
	if problem := e.config.addressProblem(addr); problem != "" {
		e.logger.Warn("relay_ip is "+problem+": set it to a permanent public address", "relay_ip", addr)
	}
}

// Counters returns the counters since Start, for a monitoring system, and false before Start.
func (e *Endpoint) Counters() (turnsrv.Counters, bool) {
	server := e.server.Load()
	if server == nil {
		return turnsrv.Counters{}, false
	}
	return server.Counters(), true
}

// SetDraining makes the relay refuse new calls, or accept them again. Running calls go on.
func (e *Endpoint) SetDraining(draining bool) {
	if server := e.server.Load(); server != nil {
		server.SetDraining(draining)
	}
}

// Sessions describes the live allocations: see turnsrv.Server. It returns nothing before Start.
func (e *Endpoint) Sessions(ctx context.Context) ([]event.Allocation, error) {
	if server := e.server.Load(); server != nil {
		return server.Sessions(ctx)
	}
	return nil, nil
}

// Disconnect ends the allocations that match, and returns them: see turnsrv.Server.
func (e *Endpoint) Disconnect(ctx context.Context, match func(event.Allocation) bool) ([]event.Allocation, error) {
	if server := e.server.Load(); server != nil {
		return server.Disconnect(ctx, match)
	}
	return nil, nil
}

// orNone converts a configured value, where 0 means none, to turnsrv's, where 0 means the default and less means none.
func orNone[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// Shutdown refuses new allocations, lets running calls continue for the configured drain_timeout or until ctx is done, and then
// ends them.
func (e *Endpoint) Shutdown(ctx context.Context) error {
	if e.engine == nil {
		return nil
	}
	e.stopped.Store(true)
	ctx, cancel := context.WithTimeout(ctx, e.config.DrainTimeout)
	defer cancel()
	cut, cutCalls := context.WithCancelCause(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, func() {
		e.ports.Freeze() // first: what ends now is what the next process has to know
		cutCalls(ctx.Err())
	})()
	start := time.Now()
	var err error
	if draining, ok := e.engine.(drainer); ok {
		err = draining.Shutdown(cut)
	} else {
		e.ports.Freeze()
		err = e.engine.Close()
	}
	if errors.Is(err, context.Canceled) {
		err = context.Cause(cut)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		e.logger.Info("calls cut at the end of the drain", "duration", time.Since(start).Round(time.Millisecond))
		err = nil
	}
	return e.close(err)
}

// close ends what remains after the engine has been closed with err.
func (e *Endpoint) close(err error) error {
	e.stopFollowing()
	e.serving.Wait()
	if e.forgetPorts != nil {
		e.forgetPorts.Stop()
	}
	e.withdrawSockets()
	return errors.Join(err, e.allocator.Close(), e.ports.Close())
}
