package neighbor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
)

// TestWatch has neighbors fail and recover.
func TestWatch(t *testing.T) {
	var log strings.Builder
	failing, changes := "", 0
	w := &Watch{
		Neighbors: func() []cluster.Relay {
			return []cluster.Relay{{Name: "a", Incarnation: "1"}, {Name: "b", Incarnation: "2"}}
		},
		Probe: func(_ context.Context, r cluster.Relay) error {
			if strings.Contains(failing, r.Name) {
				return errors.New("no answer")
			}
			return nil
		},
		Changed: func() { changes++ },
		Logger:  slog.New(slog.NewTextHandler(&log, nil)),
	}
	for _, step := range []struct {
		failing, want, log string
		changes            int
	}{
		{"", "map[]", "", 0},
		{"a", "map[1:no answer]", "cannot be reached from here", 1},
		{"a", "map[1:no answer]", "", 1},
		{"", "map[]", "can be reached again", 2},
		{"ab", "map[]", "its own network is suspected", 2},
		{"b", "map[2:no answer]", "cannot be reached from here", 3},
	} {
		failing = step.failing
		log.Reset()
		w.round(t.Context())
		if got := fmt.Sprint(w.Failed()); got != step.want || changes != step.changes || (log.Len() == 0) != (step.log == "") || !strings.Contains(log.String(), step.log) {
			t.Errorf("while %q fail: %s after %d changes, want %s after %d; log %q", step.failing, got, changes, step.want, step.changes, log.String())
		}
	}
}

// TestRun checks how often neighbors are probed, and that the end of a Watch does not wait for a probe.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var probes atomic.Int32
		w := &Watch{
			Neighbors: func() []cluster.Relay { return []cluster.Relay{{Name: "a", Incarnation: "1"}} },
			Probe: func(ctx context.Context, _ cluster.Relay) error {
				if probes.Add(1) == 7 {
					<-ctx.Done()
				}
				return ctx.Err()
			},
			Changed: func() { t.Error("a result has changed") },
			Logger:  slog.New(slog.DiscardHandler),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.Run(ctx) }()
		time.Sleep(6 * interval)
		synctest.Wait()
		if n := probes.Load(); n != 6 {
			t.Errorf("%d probes in a minute", n)
		}
		time.Sleep(2 * interval)
		cancel()
		<-done
	})
}
