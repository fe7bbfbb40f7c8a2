package session

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestExpiriesAgainstScan makes, refreshes and ends allocations at random, and compares what is left with when each has to end.
func TestExpiriesAgainstScan(t *testing.T) {
	r := newRoamers(t, limit.Quotas{})
	random := rand.New(rand.NewPCG(1, 2))
	want := make(map[Client]time.Time) // when each allocation expires
	for step := range 2000 {
		from := fmt.Sprintf("192.0.2.1:%d", 1+random.IntN(100))
		client := clientAt(from)
		lifetime := time.Duration(600+random.IntN(3000)) * time.Second
		switch random.IntN(4) {
		case 0, 1:
			if want[client].IsZero() {
				if code := r.request(from, stun.MethodAllocate, turntest.TransportUDP, turntest.Lifetime(uint32(lifetime/time.Second))); code != 0 {
					t.Fatalf("Allocate is answered %d", code)
				}
				want[client] = r.now.Add(lifetime)
			}
		case 2:
			if !want[client].IsZero() {
				r.request(from, stun.MethodRefresh, turntest.Lifetime(uint32(lifetime/time.Second)))
				want[client] = r.now.Add(lifetime)
			}
		case 3:
			if !want[client].IsZero() && random.IntN(4) == 0 {
				r.request(from, stun.MethodRefresh, turntest.Lifetime(0))
				delete(want, client)
			}
		}
		r.now = r.now.Add(time.Duration(random.IntN(60)) * time.Second)
		for r.janitor(r.now) {
		}
		for client, expires := range want {
			if !r.now.Before(expires) {
				delete(want, client)
			}
			if has := r.allocations.get(client) != nil; has != r.now.Before(expires) {
				t.Fatalf("step %d: client %v has an allocation: %t, %v before it expires", step, client.Tuple.Client, has, expires.Sub(r.now))
			}
		}
		if len(r.expiries) != len(want) || r.allocations.len() != len(want) {
			t.Fatalf("step %d: %d expiries of %d allocations, want %d", step, len(r.expiries), r.allocations.len(), len(want))
		}
	}
	if r.shared.Counters.Ended[event.EndedExpired].Load() < 100 || r.shared.Counters.Ended[event.EndedByClient].Load() < 10 {
		t.Error("hardly anything has ended")
	}
}

// TestRefreshedExpiries checks that a run of the janitor does not look at all of many allocations that have been refreshed.
func TestRefreshedExpiries(t *testing.T) {
	b := newBareSession(t)
	now := b.shared.start
	const n = refreshLimit + 100
	for range n {
		a := &allocation{session: b.Session}
		a.addresses = []*relayedAddress{{allocation: a, expires: time.Minute}}
		b.expiries.schedule(a)
		a.addresses[0].expires = time.Hour
	}
	now = now.Add(time.Minute)
	if a, more := b.expiries.due(now.Sub(b.shared.start), refreshLimit); a != nil || !more {
		t.Errorf("got %v, more: %t", a, more)
	}
	if a, more := b.expiries.due(now.Sub(b.shared.start), refreshLimit); a != nil || more {
		t.Errorf("afterwards, got %v, more: %t", a, more)
	}
}

// TestRestless checks that the janitor looks after an allocation while it relays, and not after idle ones.
func TestRestless(t *testing.T) {
	r := newRoamers(t, limit.Quotas{})
	const from = "192.0.2.1:1"
	r.allocate(from)
	a := r.allocations.get(clientAt(from))
	want := func(when string, restless int, active int64) {
		t.Helper()
		r.now = r.now.Add(JanitorPeriod)
		r.janitor(r.now)
		if len(r.restless) != restless || (a.restless != 0) != (restless > 0) || r.shared.active.Load() != active {
			t.Errorf("%s: %d are restless and %d relay, want %d and %d", when, len(r.restless), r.shared.active.Load(), restless, active)
		}
	}
	want("at the beginning", 0, 0)
	r.stir(a)
	a.addresses[0].toPeer.Add(100)
	want("after a packet", 1, 1)
	want("without another packet", 0, 0)
	r.stir(a)
	r.stir(a)
	r.allocate("192.0.2.1:2")
	r.stir(r.allocations.get(clientAt("192.0.2.1:2")))
	r.endAddresses(a.addresses, event.EndedByClient, r.now)
	if len(r.restless) != 1 || a.restless != 0 || r.restless[0].restless != 1 {
		t.Errorf("after the end of one of two, %d are restless", len(r.restless))
	}
	want("when both are quiet", 0, 0)
}

// TestGraceWithoutAllocation lets a grace end that no allocation is left to settle. There must be none for a while after it.
func TestGraceWithoutAllocation(t *testing.T) {
	var e excess
	if !e.begin(time.Minute) {
		t.Fatal("there is no grace")
	}
	after := time.Minute + roamingGrace + 3*JanitorPeriod
	if e.begin(after) {
		t.Error("a grace that is over goes on")
	}
	if e.begin(after + roamingPause/2) {
		t.Error("another grace follows at once")
	}
	if !e.begin(after + roamingPause) {
		t.Error("there is no grace later either")
	}
}

// BenchmarkJanitor measures a run of the janitor beside idle allocations.
func BenchmarkJanitor(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newBareSession(b)
			now := s.shared.start
			for range n {
				a := &allocation{session: s.Session}
				a.addresses = []*relayedAddress{{allocation: a, expires: time.Hour}}
				s.expiries.schedule(a)
			}
			for b.Loop() {
				s.janitor(now)
			}
		})
	}
}
