package session

import (
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// TestTotalIsShared lets one client send ten times the total limit, in addition to calls that are each within their share.
func TestTotalIsShared(t *testing.T) {
	const calls, voice, flood, payload = 20, 50, 20000, 160 // voice and flood are packets a second
	bits := int64(cost(payload, turntest.Loopback)) * 8
	server := &Shared{start: time.Unix(0, 0)}
	for d := range server.throttles {
		server.throttles[d].active = &server.active
	}
	server.limits.Store(&limit.Quotas{MaxTotalBPS: 2 * calls * voice * bits})
	server.active.Store(calls + 1)
	f := &Session{shared: server}
	allocate := func() *allocation { return &allocation{session: f, account: new(holding)} }
	flooder := allocate()
	var callers [calls]*allocation
	for i := range callers {
		callers[i] = allocate()
	}
	lost, passed := 0, 0
	const seconds = 5
	for tick := range seconds * flood {
		now := server.start.Add(time.Minute + time.Duration(tick)*time.Second/flood)
		if flooder.mayRelay(toPeer, payload, turntest.Loopback, now) {
			passed++
		}
		if tick%(flood/voice) == 0 {
			for _, caller := range callers {
				if !caller.mayRelay(toPeer, payload, turntest.Loopback, now) {
					lost++
				}
			}
		}
	}
	if lost > 0 {
		t.Errorf("the calls lose %d of %d packets beside one client that takes all it can", lost, calls*voice*seconds)
	}
	// The flooding client gets what the calls leave, and the initial contents of the buckets.
	if most := (seconds*calls*voice + 2*calls*voice) * 11 / 10; passed > most || passed < seconds*calls*voice/2 {
		t.Errorf("the client that takes all it can relays %d packets, want at most %d", passed, most)
	}
}

// TestPacketsHaveABudget limits the number of packets, and counts the headers of small ones.
func TestPacketsHaveABudget(t *testing.T) {
	now := time.Unix(100, 0)
	passed := func(quotas limit.Quotas, allocations, payload int) (n int) {
		server := &Shared{start: time.Unix(0, 0)}
		server.limits.Store(&quotas)
		account := new(holding)
		for range allocations {
			a := &allocation{session: &Session{shared: server}, account: account}
			for range 10000 {
				if a.mayRelay(toClient, payload, turntest.Loopback, now) {
					n++
				}
			}
		}
		return n
	}
	for _, tt := range []struct {
		name                 string
		quotas               limit.Quotas
		allocations, payload int
		want                 int
	}{
		{"a megabit of single bytes", limit.Quotas{MaxBPS: 1_000_000}, 1, 1, 1_000_000 / 8 / 29},
		{"packets of an allocation", limit.Quotas{MaxPPS: 1000}, 1, 0, 1000},
		{"packets of a user", limit.Quotas{MaxPPS: 1000, MaxPPSPerUser: 2500}, 5, 0, 2500},
		{"no limit", limit.Quotas{}, 1, 0, 10000},
	} {
		if got := passed(tt.quotas, tt.allocations, tt.payload); got != tt.want {
			t.Errorf("%s: %d packets pass at once, want %d", tt.name, got, tt.want)
		}
	}
}
