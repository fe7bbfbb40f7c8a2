package rough

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
)

const (
	// interval is how often the calls are counted.
	interval = 10 * time.Second
	// restartsOfRelay happen at equal distances.
	restartsOfRelay = 3
	// roamEvery is how often a client roams in a long run. In a short one, it does twice.
	roamEvery = 10 * time.Minute
	// eventLimit is how long a call may be interrupted by a restart of the relay, or by a change of address; gapLimit, otherwise.
	eventLimit, gapLimit = 20 * time.Second, 5 * time.Second
)

// event is something that happens to calls.
type event struct {
	at     time.Duration
	name   string
	calls  []*call
	happen func()
}

// TestRough has all calls go on for five minutes, or for as long as MAILTURN_ROUGH says, and writes a table about them to the file
// that MAILTURN_ROUGH_TABLE names.
func TestRough(t *testing.T) {
	length, err := time.ParseDuration(cmp.Or(os.Getenv("MAILTURN_ROUGH"), "5m"))
	if err != nil {
		t.Fatalf("MAILTURN_ROUGH: %v", err)
	}
	required(t)
	run := &run{began: time.Now(), length: length, ttl: min(max(length/5, time.Minute), 5*time.Minute)}
	run.network = newNetwork(t)
	run.relay = newRelay(t, run.network.relay, run.ttl)
	run.setUp(t)
	run.connect(t)
	if t.Failed() {
		return
	}
	run.last(t)
	run.finish(t)
	if file := os.Getenv("MAILTURN_ROUGH_TABLE"); file != "" {
		if err := os.WriteFile(file, []byte(run.table(t)), 0o644); err != nil {
			t.Fatal(err)
		}
	} else {
		t.Logf("the table:\n%s", run.table(t))
	}
}

// run is all calls on one relay.
type run struct {
	began    time.Time
	length   time.Duration
	ttl      time.Duration // of credentials
	network  *network
	relay    *relay
	calls    []*call
	first    party.Server // a credential from the beginning
	issued   time.Time
	controls []control
}

// each does the same with several calls at the same time.
func each(calls []*call, f func(c *call)) {
	var all sync.WaitGroup
	for _, c := range calls {
		all.Go(func() { f(c) })
	}
	all.Wait()
}

// connect connects all calls.
func (r *run) connect(t *testing.T) {
	each(r.calls, func(c *call) {
		var err error
		for range attempts { // packets are lost
			if err = c.connect(t.Context(), false); err == nil {
				return
			}
			t.Logf("%s: not connected at first: %v", c, err)
			c.note("it did not connect at first: %v", err)
		}
		t.Errorf("%s: not connected: %v", c, err)
	})
	r.relay.running().busy = r.relay.metrics(t)
}

// last lets the calls last until the end.
func (r *run) last(t *testing.T) {
	begin := time.Now()
	each(r.calls, func(c *call) { c.disregard(t) })
	for _, e := range append(r.events(t), event{at: r.length}) {
		for time.Since(begin) < e.at {
			time.Sleep(min(interval, e.at-time.Since(begin)))
			each(r.calls, func(c *call) { c.watch(t) })
		}
		if e.happen == nil {
			return
		}
		began := time.Now()
		e.happen()
		each(e.calls, func(c *call) {
			c.disregard(t)
			c.reconnect(t, began, e.name)
		})
		each(e.calls, func(c *call) { c.disregard(t) })
		if len(e.calls) == len(r.calls) {
			r.relay.running().busy = r.relay.metrics(t)
		}
		for _, c := range e.calls {
			t.Logf("%s: %s after %s", time.Since(r.began).Round(time.Second), c, e.name)
		}
	}
}

// events are those of the run, in their order.
func (r *run) events(t *testing.T) (events []event) {
	for i := range restartsOfRelay {
		events = append(events, event{
			at: r.length * time.Duration(i+1) / (restartsOfRelay + 1), name: "a restart of the relay", calls: r.calls,
			happen: func() { r.restart(t) },
		})
	}
	for _, c := range r.calls {
		if !c.row.roams {
			continue
		}
		roams := max(2, int(r.length/roamEvery))
		for i := range roams {
			events = append(events, event{
				at: r.length * time.Duration(2*i+1) / time.Duration(2*roams), name: "a change of address", calls: []*call{c},
				happen: func() { c.ends[i%2].home.roam(t) },
			})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return events
}

// restart restarts the relay, with the same configuration and state.
func (r *run) restart(t *testing.T) {
	r.relay.running().last = r.relay.metrics(t)
	r.relay.stop(t)
	r.relay.start(t)
}

// finish checks what each row promises, and then that nothing of the calls remains on the relay.
func (r *run) finish(t *testing.T) {
	for _, c := range r.calls {
		c.count(t)
	}
	time.Sleep(2 * time.Second)
	for _, c := range r.calls {
		if !c.count(t) {
			t.Errorf("%s: the call is not up at the end", c)
		}
		for to, e := range c.ends {
			if share := c.delivered(to); share < c.row.delivered {
				t.Errorf("%s: %.2f %% of the messages arrived at the %s, want %.0f %%", c, 100*share, e.kind, 100*c.row.delivered)
			}
			if e.gap > gapLimit && !c.row.mayDie {
				t.Errorf("%s: no message came at the %s for %v, although nothing was done to the call", c, e.kind, e.gap)
			}
		}
		if limit := eventLimit + c.row.slow; c.interrupted > limit {
			t.Errorf("%s: messages came again only %v after an event, want %v", c, c.interrupted, limit)
		}
		if c.row.check != nil {
			c.row.check(t, r, c)
		}
	}
	r.expiry(t)
	r.relay.running().last = r.relay.metrics(t)
	for _, c := range r.calls {
		for _, e := range c.ends {
			e.close(t)
		}
	}
	r.leaks(t)
}

// leaks waits until the relay has no more than it had before its first client. Clients that have changed their addresses could not
// end their allocations, which are left for at most ten minutes.
func (r *run) leaks(t *testing.T) {
	p := r.relay.running()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(time.Second) {
		p.after = r.relay.metrics(t)
		left := p.after.sum("mailturn_turn_allocations")
		descriptors, goroutines := p.more("process_open_fds")-left, p.more("go_goroutines")-8*left
		if descriptors <= 6 && goroutines <= 10 { // those that read relayed addresses stay
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the calls have left %.0f descriptors and %.0f goroutines besides %.0f allocations:\n%s", descriptors, goroutines, left, r.relay.descriptors(t))
			return
		}
	}
}

// more is how much more of something there was after the calls than before.
func (p *process) more(name string) float64 { return p.after[name] - p.idle[name] }

// control is something that must fail, and what happened.
type control struct{ what, happened string }

// fails checks that there is an error that contains this text, and records it for the table.
func (r *run) fails(t *testing.T, what string, err error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: the error is %v, want one that says %q", what, err, says)
		return
	}
	r.controls = append(r.controls, control{what, err.Error()})
}

// expiry checks that the first credential is refused and a current one is accepted.
func (r *run) expiry(t *testing.T) {
	h := r.calls[0].ends[0].home
	udp := route{relayIPv4, "udp"}
	if left := r.ttl - time.Since(r.issued); left > 0 {
		time.Sleep(left)
	}
	r.fails(t, fmt.Sprintf("an allocation with a credential of %v ago, which was valid for %v", time.Since(r.issued).Round(time.Second), r.ttl),
		h.allocate(t.Context(), udp, r.first), "error 401")
	fresh, err := h.credential(t.Context(), udp)
	if err == nil {
		err = h.allocate(t.Context(), udp, fresh)
	}
	if err != nil {
		t.Errorf("with a credential of now: %v", err)
	}
}
