package rough

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
)

const (
	// rate is how many messages a second each end sends.
	rate = 50
	// connectLimit is how long both ends may take to connect, on a busy machine.
	connectLimit = 45 * time.Second
	// attempts is how often a call is reconnected before it counts as lost.
	attempts = 3
)

// end is one of the two of a call.
type end struct {
	kind   string
	home   *home
	routes []route
	agent  *party.Party
	closed bool

	sent, received int // while nothing was done to the call
	trips          []float64
	gap            time.Duration // longest between two arrivals while nothing was done to the call
}

// call is one that lasts for the whole run.
type call struct {
	relay       *relay
	row         *row
	ends        [2]*end
	interrupted time.Duration // the longest time from an event until messages came at both ends again
	restarts    int           // ICE restarts that succeeded
	connections int           // new connections in place of an old one
	died        int           // times that no message came although nothing was done to the call
	notes       []string
}

// close ends the party, once.
func (e *end) close(t *testing.T) {
	if e.closed {
		return
	}
	e.closed = true
	if err := e.agent.Close(); err != nil {
		t.Error(err)
	}
}

// connect connects the ends, each with a credential that it fetches now.
func (c *call) connect(ctx context.Context, restart bool) error {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	var servers [2]party.Server
	for i, e := range c.ends {
		s, err := e.home.credential(ctx, e.routes...)
		if err != nil {
			return fmt.Errorf("%s fetches a credential: %w", e.kind, err)
		}
		servers[i] = s
	}
	offer, err := c.ends[0].agent.Offer(ctx, servers[:1], restart)
	if err != nil {
		return fmt.Errorf("%s makes an offer: %w", c.ends[0].kind, err)
	}
	answer, err := c.ends[1].agent.Answer(ctx, servers[1:], offer, restart)
	if err != nil {
		return fmt.Errorf("%s answers: %w", c.ends[1].kind, err)
	}
	if err := c.ends[0].agent.Accept(ctx, answer); err != nil {
		return fmt.Errorf("%s accepts: %w", c.ends[0].kind, err)
	}
	for _, e := range c.ends {
		if err := e.agent.Connected(ctx); err != nil {
			return fmt.Errorf("%s connects: %w", e.kind, err)
		}
	}
	return c.flows(ctx)
}

// flows waits until messages come at both ends.
func (c *call) flows(ctx context.Context) error {
	var came [2]bool
	for !came[0] || !came[1] {
		for i, e := range c.ends {
			n, err := e.agent.Counts(ctx)
			if err != nil {
				return fmt.Errorf("%s counts: %w", e.kind, err)
			}
			came[i] = came[i] || n.Received > 0
		}
		select {
		case <-ctx.Done():
			return errors.Join(errors.New("no messages come"), ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// restartable reports whether both ends have ICE restarts.
func (c *call) restartable() bool {
	return kinds[c.ends[0].kind].restarts && kinds[c.ends[1].kind].restarts
}

// reconnect lets the call go on after an event that began at a time: by an ICE restart, or by a new connection if the
// implementation has none or it fails.
func (c *call) reconnect(t *testing.T, began time.Time, why string) {
	restart := c.restartable()
	var failures []error
	for range attempts {
		if ctx := t.Context(); ctx.Err() != nil {
			return
		}
		err := c.connect(t.Context(), restart)
		if err == nil {
			if restart {
				c.restarts++
			} else {
				c.connections++
			}
			c.interrupted = max(c.interrupted, time.Since(began))
			if len(failures) > 0 {
				c.note("after %s, %d attempts failed at first: %v", why, len(failures), errors.Join(failures...))
			}
			return
		}
		failures = append(failures, err)
		restart = false
	}
	c.interrupted = max(c.interrupted, time.Since(began))
	c.note("after %s it did not connect: %v", why, errors.Join(failures...))
	t.Errorf("%s: not connected again after %s: %v", c, why, errors.Join(failures...))
}

// count adds up what has happened since the last time, during which nothing was done to the call. It reports whether messages come
// at both ends: one has come since the last time, or within gapLimit, since the last time may have been a moment ago.
func (c *call) count(t *testing.T) bool {
	var n [2]party.Counts
	var errs [2]error
	var both sync.WaitGroup
	for i, e := range c.ends {
		both.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), connectLimit)
			defer cancel()
			n[i], errs[i] = e.agent.Counts(ctx)
		})
	}
	both.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		c.note("not counted: %v", err)
		return false
	}
	alive := true
	for i, e := range c.ends {
		gap := time.Duration(n[i].LongestGap * float64(time.Millisecond))
		alive = alive && (n[i].Received > 0 || gap < gapLimit)
		e.sent += n[i].Sent
		e.received += n[i].Received
		e.gap = max(e.gap, gap)
		if n[i].RoundTrip > 0 {
			e.trips = append(e.trips, n[i].RoundTrip)
		}
	}
	return alive
}

// disregard discards the counts, because the call was disturbed in the meantime.
func (c *call) disregard(t *testing.T) {
	for _, e := range c.ends {
		ctx, cancel := context.WithTimeout(t.Context(), connectLimit)
		if _, err := e.agent.Counts(ctx); err != nil {
			t.Errorf("%s: %v", c, err)
		}
		cancel()
	}
}

// watch counts, and makes a new connection if the call has died.
func (c *call) watch(t *testing.T) {
	began := time.Now()
	if c.count(t) {
		return
	}
	c.died++
	c.note("at %s no messages came", began.UTC().Format("15:04"))
	if !c.row.mayDie {
		t.Errorf("%s: no messages come, although nothing was done to it; what the relay has said of its clients:\n%s", c,
			c.relay.last(c.ends[0].home.address(), c.ends[1].home.address()))
	}
	c.reconnect(t, began, "it had died")
}

func (c *call) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

func (c *call) String() string {
	return fmt.Sprintf("%s and %s (%s)", c.ends[0].kind, c.ends[1].kind, c.row.condition)
}

// delivered is the share of messages that arrived at the end of this number.
func (c *call) delivered(to int) float64 {
	return float64(c.ends[to].received) / float64(max(1, c.ends[1-to].sent))
}
