package neighbor

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
)

// interval is the time between two probes of a relay.
const interval = 10 * time.Second

// A Watch probes the neighbors of a relay in a cluster, and keeps what it has found out. It is safe for concurrent use.
type Watch struct {
	// Neighbors returns the relays to probe.
	Neighbors func() []cluster.Relay
	// Probe probes one of them.
	Probe func(context.Context, cluster.Relay) error
	// Changed is called when a result is different from the one before.
	Changed func()
	Logger  *slog.Logger

	mu     sync.Mutex
	failed map[string]string // reasons by incarnation
}

// Failed returns the neighbors whose latest probe failed, as a relay announces them. The caller must not change the map.
func (w *Watch) Failed() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// Run probes until ctx is done. Relays that start at the same time do not probe at the same time.
func (w *Watch) Run(ctx context.Context) {
	wait := time.NewTimer(rand.N(interval))
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		w.round(ctx)
		wait.Reset(interval)
	}
}

// round probes each neighbor once. If all of several fail, the fault is more probably here, and none is reported.
func (w *Watch) round(ctx context.Context) {
	neighbors := w.Neighbors()
	errs := make([]error, len(neighbors))
	var probing sync.WaitGroup
	for i, r := range neighbors {
		probing.Go(func() { errs[i] = w.Probe(ctx, r) })
	}
	probing.Wait()
	if ctx.Err() != nil {
		return
	}
	before, failed := w.Failed(), make(map[string]string)
	for i, r := range neighbors {
		if errs[i] != nil {
			failed[r.Incarnation] = cluster.Failure(errs[i])
		}
	}
	if len(failed) > 1 && len(failed) == len(neighbors) {
		w.Logger.Warn("cluster: none of the relays that this one probes can be reached, so its own network is suspected", "relays", len(failed), "err", errs[0])
		failed = nil
	}
	changed := len(failed) != len(before)
	for i, r := range neighbors {
		reason, fails := failed[r.Incarnation]
		switch _, was := before[r.Incarnation]; {
		case fails && !was:
			changed = true
			w.Logger.Warn("cluster: a relay cannot be reached from here", "name", r.Name, "server", r.Server, "err", reason)
		case was && errs[i] == nil:
			w.Logger.Info("cluster: a relay can be reached again", "name", r.Name)
		}
	}
	w.mu.Lock()
	w.failed = failed
	w.mu.Unlock()
	if changed {
		w.Changed()
	}
}
