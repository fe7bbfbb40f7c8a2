// Package cluster shares between several mailturn processes which relays are alive, through a Redis server.
//
// Nothing that serves a client waits for Redis: a goroutine announces the relays of this process and reads those of all others, and
// everybody else uses what it has read last.
package cluster

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Times of the announcements. A relay that dies is out after at most lifetime and the interval in which others look.
const (
	interval = 2 * time.Second
	lifetime = 6 * time.Second
	timeout  = 1500 * time.Millisecond // of one operation, less than interval
)

// A Directory knows the relays of a cluster. The methods of a nil Directory are those of one that knows none. It is safe for
// concurrent use.
type Directory struct {
	settings Settings
	self     func() []Relay
	serve    func(Request) // nil to ignore requests
	logger   *slog.Logger
	client   redis.UniversalClient
	// interval and lifetime are the constants, except in tests.
	interval, lifetime time.Duration

	changed chan struct{} // capacity 1: announce now
	cleaned atomic.Bool   // see clean
	stop    context.CancelFunc
	stopped chan struct{}
	// announced is set when Redis had an announcement of this process, conflict when it then had one of another with the same name.
	// foreign is set when the log says that an announcement was ignored. Only run uses them.
	announced, conflict, foreign bool

	mu sync.Mutex // guards what follows
	// relays are those that were alive at read, in the order of their names.
	relays   []Relay
	read     time.Time
	err      error  // of the last attempt
	failures uint64 // attempts
	outages  []Outage
	region   string
	clients  clientRegions
}

// New returns a Directory, and nil if settings are for no cluster. self returns what the relays of this process announce; after
// Start, one goroutine calls it every two seconds.
func New(settings Settings, self func() []Relay, logger *slog.Logger) *Directory {
	if !settings.Enabled {
		return nil
	}
	redis.SetLogger(clientLog{logger})
	return &Directory{
		settings: settings, self: self, logger: logger, client: settings.client(),
		interval: interval, lifetime: lifetime,
		changed: make(chan struct{}, 1), stopped: make(chan struct{}), region: settings.Block.Region.V, clients: settings.clients,
	}
}

// Start joins the cluster, without waiting for Redis. Call Stop in the end.
func (d *Directory) Start() {
	if d == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	go d.run(ctx)
}

// clientLog logs what the client of Redis has to say, which is one logger for all clients.
type clientLog struct{ logger *slog.Logger }

func (l clientLog) Printf(ctx context.Context, format string, args ...any) {
	l.logger.DebugContext(ctx, "cluster: "+fmt.Sprintf(format, args...))
}

// Stop leaves the cluster: others learn at once that the relays of this process are gone. Without Start it does nothing.
func (d *Directory) Stop() {
	if d == nil || d.stop == nil {
		return
	}
	d.stop()
	<-d.stopped
	defer d.client.Close()
	if d.Status().Err != nil { // and the announcements expire soon
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, r := range d.self() {
		err := leave.Run(ctx, d.client, relayKeys(d.settings.Block.KeyPrefix.V), r.Name, r.Incarnation).Err()
		if err != nil {
			d.logger.Warn("other machines may send calls to this one for a few more seconds: Redis was not told that it stops", "err", err)
			return
		}
	}
}

// Apply applies the attributes of settings that do not require a restart.
func (d *Directory) Apply(settings Settings) {
	if d == nil {
		return
	}
	d.mu.Lock()
	d.region, d.clients = settings.Block.Region.V, settings.clients
	d.mu.Unlock()
	d.Changed()
}

// Changed has the relays of this process announced now, because what they announce has changed.
func (d *Directory) Changed() {
	if d == nil {
		return
	}
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// Region returns the region of a client: that of client_regions, or else that of this process. It is empty if there is none.
func (d *Directory) Region(client netip.Addr) string {
	if d == nil {
		return ""
	}
	d.mu.Lock()
	region, clients := d.region, d.clients
	d.mu.Unlock()
	return cmp.Or(clients.of(client), region)
}

// Relays returns the relays that are alive, in the order of their names. It returns none if Redis has not answered for some seconds,
// because what it knew may no longer be true. The caller must not change them.
func (d *Directory) Relays() []Relay {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.read) > d.lifetime {
		return nil
	}
	return d.relays
}

// run announces and reads until ctx is done.
func (d *Directory) run(ctx context.Context) {
	defer close(d.stopped)
	ticker := time.NewTicker(d.interval)
	defer ticker.Stop()
	for {
		d.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-d.changed:
		}
	}
}

// round announces the relays of this process, and reads those of all.
func (d *Directory) round(ctx context.Context) {
	own := d.self()
	args := []any{d.lifetime.Milliseconds(), maxRelays, maxAnnouncement}
	for _, r := range own {
		text, err := r.encode()
		if err != nil {
			d.note(nil, fmt.Errorf("announce relay %q: %w", r.Name, err))
			return
		}
		args = append(args, r.Name, text)
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	texts, err := announce.Run(limited, d.client, relayKeys(d.settings.Block.KeyPrefix.V), args...).StringSlice()
	if ctx.Err() != nil {
		return
	}
	if err == nil && (len(texts) < len(own) || (len(texts)-len(own))%2 != 0) {
		err = fmt.Errorf("the answer has %d values for %d relays of this machine", len(texts), len(own))
	}
	if isForeign(err) {
		keys := relayKeys(d.settings.Block.KeyPrefix.V)
		d.clean(limited, hashKey, keys[0])
		d.clean(limited, sortedSetKey, keys[1])
	}
	if err != nil {
		if nodes, ok := d.client.(*redis.ClusterClient); ok {
			nodes.ReloadState(ctx) // or it would try the same node for a minute, when another has taken over
		}
		d.note(nil, err)
		return
	}
	d.takeRequests(limited, own)
	d.checkNames(own, texts[:len(own)])
	d.note(d.parse(texts[len(own):], own), nil)
}

// checkNames logs that another process announces a relay under the name of one of this process. replaced are the announcements that
// those in own have replaced. The first one may be of an earlier incarnation, which has died.
func (d *Directory) checkNames(own []Relay, replaced []string) {
	for i, text := range replaced {
		other, err := parseRelay(text)
		switch {
		case err != nil || other.Incarnation == own[i].Incarnation:
			d.announced = true
		case d.announced && !d.conflict:
			d.conflict = true
			d.logger.Error("cluster: another relay has the name of this one; only one of them gets calls",
				"name", own[i].Name, "server", other.Server, "fix", "set cluster.name on one of the machines")
		}
	}
}

// parse returns the relays of announcements, each of which is followed by its age in milliseconds. One that cannot be read is left out.
func (d *Directory) parse(texts []string, own []Relay) (relays []Relay) {
	now := time.Now()
	for pair := range slices.Chunk(texts[:min(len(texts), 2*maxRelays)], 2) {
		r, err := parseRelay(pair[0])
		if err != nil {
			if !d.foreign {
				d.logger.Warn("cluster: ignoring an announcement in Redis; more are ignored without a message", "err", err)
			}
			d.foreign = true
			continue
		}
		age, _ := strconv.ParseInt(pair[1], 10, 32)
		r.Seen = now.Add(-time.Duration(age) * time.Millisecond)
		r.Own = slices.ContainsFunc(own, func(o Relay) bool { return o.Incarnation == r.Incarnation })
		relays = append(relays, r)
	}
	slices.SortFunc(relays, func(a, b Relay) int { return cmp.Compare(a.Name, b.Name) })
	collectFailures(relays)
	return relays
}

// note stores the result of a round, and logs when announcing begins and ceases to fail.
func (d *Directory) note(relays []Relay, err error) {
	d.mu.Lock()
	first := d.read.IsZero()
	d.err = err
	if err != nil {
		d.failures++
	} else {
		d.relays, d.read = relays, time.Now()
	}
	d.mu.Unlock()
	news := d.report(Announcements, err)
	switch {
	case news && IsPermission(err):
		d.logger.Error("cluster: Redis refuses what announcements need; this machine carries on alone", "err", err)
	case news && err != nil:
		d.logger.Error("cluster: Redis cannot be used; this machine carries on alone", "err", err)
	case news:
		d.logger.Info("cluster: Redis can be used again", "relays", len(relays))
	case err == nil && first:
		d.logger.Info("cluster: joined", "relays", len(relays))
	}
}
