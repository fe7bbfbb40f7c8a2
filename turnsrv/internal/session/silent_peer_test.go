package session

import (
	"net/netip"
	"testing"
	"time"
)

// An agent that checks an unresponsive address as fast as RFC 8445 section 14.2 allows is never limited. Neither is media to a
// peer that responds only to checks and consent.
func TestSilentPeerBudgetAndICE(t *testing.T) {
	const check = 140 // bytes: USERNAME, PRIORITY, ICE-CONTROLLING, MESSAGE-INTEGRITY, FINGERPRINT and what vendors add
	a := silentServer(silentBudget)()
	var p permission
	now := time.Unix(1758650868, 0)
	for range 20 * 60 { // a minute of one each 50 ms
		if !a.mayGo(&p, victim, check, now) {
			t.Fatal("a check is held up")
		}
		now = now.Add(50 * time.Millisecond)
	}
	p.heard.Store(true)
	for range 10000 { // 100 Mbit/s
		if !a.mayGo(&p, victim, 1200, now) {
			t.Fatal("media is held up")
		}
		now = now.Add(100 * time.Microsecond)
	}
}

func TestSilentPeerWithoutLimit(t *testing.T) {
	if !silentServer(-1)().mayGo(new(permission), victim, 1<<30, time.Now()) {
		t.Error("there is a limit")
	}
}

// victim is a peer that never answers.
var victim = netip.MustParseAddr("192.0.2.1")

// silentServer returns a function that makes allocations of one server.
func silentServer(budget int) func() *allocation {
	f := &Session{shared: &Shared{start: time.Unix(1758650868, 0), silentPeers: silentPeers{budget: budget}}}
	return func() *allocation { return &allocation{session: f} }
}

// TestSilentPeersDoNotMultiply sends as much as possible to addresses that never answer, from many allocations or to many
// addresses.
func TestSilentPeersDoNotMultiply(t *testing.T) {
	const budget = silentBudget
	for _, tt := range []struct {
		name        string
		allocations int
		addrs       int
		addr        func(i int) netip.Addr
		want        int // in units of budget
	}{
		{"one address from one allocation", 1, 1, func(int) netip.Addr { return victim }, 1},
		{"one address from many allocations", 100, 1, func(int) netip.Addr { return victim }, silentOfHost},
		{"many addresses in one /64", 100, 200, func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xD, 0xB8, 15: byte(i)})
		}, silentOfHost},
		{"many addresses in one /24", 100, 200, func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) },
			silentOfNetwork},
		{"addresses everywhere", 1, 200, func(i int) netip.Addr { return netip.AddrFrom4([4]byte{8, byte(i), 1, 1}) },
			silentOfAllocation},
	} {
		allocate := silentServer(budget)
		now := time.Unix(1758650868, 0)
		passed := 0
		for range tt.allocations {
			a := allocate()
			for i := range tt.addrs {
				var p permission
				for range budget/1024 + 10 {
					if a.mayGo(&p, tt.addr(i), 1024, now) {
						passed += 1024
					}
				}
			}
		}
		if passed != tt.want*budget {
			t.Errorf("%s: %d bytes go to addresses that never answer, want %d", tt.name, passed, tt.want*budget)
		}
		// The next period has the same budget, give or take a packet.
		now = now.Add(SilentPeriod)
		if !allocate().mayGo(new(permission), tt.addr(0), budget/2, now) {
			t.Errorf("%s: nothing passes in the next period", tt.name)
		}
	}
}
