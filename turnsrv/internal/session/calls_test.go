package session

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

var (
	media    = []byte{0x80, 0x60, 0, 1, 0, 0, 0, 1} // RTP
	iceCheck = func() []byte {
		var b stun.Builder
		b.Start(stun.MethodBinding, stun.ClassRequest, stun.TransactionID{1})
		return b.Bytes()
	}()
)

// talk relays data of the client at from, and reports whether it passes the limit on calls.
func (r *roamers) talk(from string, data []byte) bool {
	r.t.Helper()
	a := r.allocations.get(clientAt(from))
	a.silence.Hear(r.now.Sub(r.shared.start))
	r.stir(a)
	return a.mayTalk(data, r.now)
}

// TestCalls checks that a user has no more calls than allowed, that checks of ICE are none, and that the client hears of it.
func TestCalls(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxCallsPerUser: 1})
	const one, two = "192.0.2.1:1", "192.0.2.1:2"
	r.allocate(one)
	r.allocate(two)
	for range 3 { // ICE checks all pairs at once
		if !r.talk(one, iceCheck) || !r.talk(two, iceCheck) {
			t.Fatal("checks of ICE are limited")
		}
	}
	if !r.talk(one, media) {
		t.Fatal("the first call is refused")
	}
	if !r.talk(two, media) {
		t.Error("a call that may have moved to another allocation is refused at once")
	}
	r.pass(roamingGrace, one, two)
	if !r.talk(one, media) || r.talk(two, media) || !r.talk(two, iceCheck) {
		t.Error("after the grace, want the first call to go on, and only checks of ICE of the second")
	}
	for method, sets := range map[stun.Method][]turntest.Set{
		stun.MethodCreatePermission: {turntest.PeerAddr(netip.MustParseAddrPort("8.8.8.8:5000"))},
		stun.MethodChannelBind:      {turntest.Channel(0x4000), turntest.PeerAddr(netip.MustParseAddrPort("8.8.8.8:5000"))},
	} {
		if code := r.request(two, method, sets...); code != stun.CodeInsufficientCapacity {
			t.Errorf("%v is answered %d, want 508", method, code)
		}
	}
	// The first call is hung up.
	r.Gone(clientAt(one), r.now)
	r.pass(2*time.Second, two)
	if !r.talk(two, media) {
		t.Error("the second call is refused after the first one has ended")
	}
	r.allocate(one)
	if r.talk(one, media) {
		t.Error("a user who had too many calls gets a grace again at once")
	}
	if n := len(r.allocations.get(clientAt(two)).account.calls); n != 1 {
		t.Errorf("%d calls are counted, want 1", n)
	}
}

// TestRefusalEnds checks that a client whose call was refused can begin another one after that, even if it has no permission any more.
func TestRefusalEnds(t *testing.T) {
	peer := netip.MustParseAddrPort("8.8.8.8:5000")
	for name, free := range map[string]func(*roamers){
		"the other call has ended": func(r *roamers) {
			r.Gone(clientAt("192.0.2.1:1"), r.now)
			r.pass(callRetry, "192.0.2.1:2")
		},
		"the limit was removed": func(r *roamers) { r.shared.SetQuotas(limited(limit.Quotas{})) },
	} {
		r := newRoamers(t, limit.Quotas{MaxCallsPerUser: 1})
		const one, two = "192.0.2.1:1", "192.0.2.1:2"
		r.allocate(one)
		r.allocate(two)
		r.request(two, stun.MethodCreatePermission, turntest.PeerAddr(peer))
		r.talk(one, media)
		r.talk(two, media)
		r.pass(roamingGrace, one, two)
		if code := r.request(two, stun.MethodCreatePermission, turntest.PeerAddr(peer)); code != stun.CodeInsufficientCapacity {
			t.Fatalf("a permission for a refused call is answered %d, want 508", code)
		}
		free(r)
		before := r.dropped(event.DropCalls)
		r.allocations.get(clientAt(two)).addresses[0].Deliver(peer, media, r.now)
		if r.dropped(event.DropCalls) != before {
			t.Errorf("after %s, what the peer sends first is dropped", name)
		}
		if code := r.request(two, stun.MethodCreatePermission, turntest.PeerAddr(peer)); code != 0 {
			t.Errorf("after %s, a permission is answered %d, want 0", name, code)
		}
		if code := r.request(two, stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer)); code != 0 {
			t.Errorf("after %s, a channel is answered %d, want 0", name, code)
		}
		if !r.talk(two, media) {
			t.Errorf("after %s, the call is refused", name)
		}
	}
}

// TestShortCallAfterMove checks that a client that has moved may move again soon, although it has hung up before the old call fell silent.
func TestShortCallAfterMove(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxCallsPerUser: 1})
	for i := range 5 {
		from := fmt.Sprintf("192.0.2.%d:1", i)
		r.allocate(from)
		for range 3 {
			if !r.talk(from, media) {
				t.Fatalf("on network %d, the call is refused", i)
			}
			r.pass(time.Second, from)
		}
		if i%2 == 1 {
			r.Gone(clientAt(from), r.now)
			r.pass(time.Minute)
		}
	}
}

// TestCallMoves checks that a call goes on after the client has changed its network.
func TestCallMoves(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxCallsPerUser: 1})
	for i := range 20 {
		from := fmt.Sprintf("192.0.2.%d:1", i)
		if code := r.allocate(from); code != 0 {
			t.Fatalf("allocation %d is answered %d", i, code)
		}
		for range 60 {
			r.pass(time.Second, from)
			if !r.talk(from, media) {
				t.Fatalf("on network %d, the call is refused", i)
			}
		}
	}
}

// TestOldPair checks that a call goes on after the client has changed its network, although it keeps checking the pair of the old one.
func TestOldPair(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxCallsPerUser: 1})
	const home, away = "192.0.2.1:1", "198.51.100.1:1"
	r.allocate(home)
	r.talk(home, media)
	r.pass(time.Minute, home)
	r.allocate(away)
	for i := range time.Minute / time.Second {
		r.pass(time.Second)
		r.talk(home, iceCheck)
		if !r.talk(away, media) {
			t.Fatalf("the call is refused %d seconds after it has moved", i)
		}
	}
}

// TestCallsInTurn checks that a user cannot have a second call all the time by ending each before the grace is over.
func TestCallsInTurn(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxCallsPerUser: 1})
	const home = "192.0.2.1:1"
	r.allocate(home)
	r.talk(home, media)
	both := 0
	for i := range 30 {
		second := fmt.Sprintf("192.0.2.1:%d", 2+i)
		r.allocate(second)
		for range roamingGrace/time.Second - 1 {
			r.pass(time.Second, home, second)
			if !r.talk(home, media) {
				t.Fatal("the first call is refused")
			}
			if r.talk(second, media) {
				both++
			}
		}
		r.Gone(clientAt(second), r.now)
		r.pass(time.Second, home)
	}
	if both >= int(roamingGrace/time.Second) {
		t.Errorf("in less than ten minutes, two calls went on for %d seconds", both)
	}
}

// TestHiddenCalls checks that media that looks like the checks of ICE is a call.
func TestHiddenCalls(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxCallsPerUser: 1})
	r.allocate("192.0.2.1:1")
	long := make([]byte, 1000)
	copy(long, iceCheck)
	long[2], long[3] = byte((len(long)-20)>>8), byte(len(long)-20)
	if isCheck(long) || !isCheck(iceCheck) || isCheck(nil) || isCheck(iceCheck[:19]) || isCheck(media) {
		t.Error("what is a check of ICE is not told apart from what is none")
	}
	for range checkBurst + 1 {
		r.talk("192.0.2.1:1", iceCheck)
	}
	if state := r.allocations.get(clientAt("192.0.2.1:1")).call.state.Load(); state != inCall {
		t.Errorf("after many checks, the state is %d, want a call", state)
	}
}

// TestVoiceAsChecks checks that the voice of a second call is refused even if each packet is wrapped as a check of ICE.
func TestVoiceAsChecks(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxCallsPerUser: 1})
	const home, second = "192.0.2.1:1", "192.0.2.1:2"
	r.allocate(home)
	r.allocate(second)
	r.talk(home, media)
	voice := make([]byte, 20+160)
	copy(voice, iceCheck)
	voice[3] = 160
	relayed := 0
	for range 60 {
		r.pass(time.Second, home)
		for range 50 {
			if r.talk(second, voice) {
				relayed++
			}
		}
	}
	if state := r.allocations.get(clientAt(second)).call.state.Load(); state != refusedCall {
		t.Errorf("the state is %d, want a refused call", state)
	}
	if most := checkBurst + 60*checkRate + int(roamingGrace/time.Second)*50; relayed > most {
		t.Errorf("%d packets were relayed in a minute, want at most %d", relayed, most)
	}
}

// TestManyCandidates checks that an agent that takes 15 seconds to connect, and sends a check and a response every 48 ms until then, as
// Chromium does, is in no call.
func TestManyCandidates(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxCallsPerUser: 1})
	r.allocate("192.0.2.1:1")
	for range 15 * time.Second / (48 * time.Millisecond) {
		r.now = r.now.Add(48 * time.Millisecond)
		r.talk("192.0.2.1:1", iceCheck)
		r.talk("192.0.2.1:1", iceCheck)
	}
	if state := r.allocations.get(clientAt("192.0.2.1:1")).call.state.Load(); state != noCall {
		t.Errorf("the state is %d, want no call", state)
	}
}

// TestPeersBeginNoCalls checks that what peers send is relayed to a client that has sent nothing yet, but neither counts as a call of the
// client nor makes one of its checks, and that there is only little of it.
func TestPeersBeginNoCalls(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxCallsPerUser: 1})
	peer := netip.MustParseAddrPort("8.8.8.8:5000")
	all := []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}
	deliver := func(from string, data []byte) (relayed bool) {
		before := r.dropped(event.DropCalls)
		r.allocations.get(clientAt(from)).addresses[0].Deliver(peer, data, r.now)
		return r.dropped(event.DropCalls) == before
	}
	for _, from := range all {
		r.allocate(from)
		if code := r.request(from, stun.MethodCreatePermission, turntest.PeerAddr(peer)); code != 0 {
			t.Fatalf("a permission is answered %d", code)
		}
	}
	for _, from := range all[:2] {
		for i := range checkBurst {
			if !deliver(from, media) || !deliver(from, iceCheck) {
				t.Fatalf("packet %d is dropped before the client has sent anything", i)
			}
		}
		if deliver(from, media) || deliver(from, iceCheck) {
			t.Error("a peer may send any number of packets to a client that sends nothing")
		}
		if !r.talk(from, iceCheck) || r.allocations.get(clientAt(from)).call.state.Load() != noCall {
			t.Error("what the peer sends makes a call of the client's checks")
		}
	}
	if n := len(r.allocations.get(clientAt(all[0])).account.calls); n != 0 {
		t.Errorf("%d calls are counted, want 0", n)
	}
	for range 20 {
		r.pass(time.Second, all...)
		if !r.talk(all[2], media) || !deliver(all[2], media) {
			t.Fatal("the only call of the client is refused")
		}
	}
	r.talk(all[1], media)
	r.pass(roamingGrace, all...)
	if r.talk(all[1], media) || deliver(all[1], media) || !deliver(all[1], iceCheck) {
		t.Error("of a refused call, want only checks of ICE in both directions")
	}
}

// TestNoLimitOnCalls checks that nothing is counted without the limit, and that a limit that is removed lets all calls go on.
func TestNoLimitOnCalls(t *testing.T) {
	r := newRoamers(t, limit.Quotas{})
	r.allocate("192.0.2.1:1")
	if !r.talk("192.0.2.1:1", media) || r.allocations.get(clientAt("192.0.2.1:1")).call.state.Load() != noCall {
		t.Error("a call is counted without a limit")
	}
	r.shared.SetQuotas(limited(limit.Quotas{MaxCallsPerUser: 1}))
	all := []string{"192.0.2.1:1", "192.0.2.1:2"}
	r.allocate(all[1])
	r.talk(all[0], media)
	r.talk(all[1], media)
	r.pass(roamingGrace, all...)
	if r.talk(all[1], media) {
		t.Fatal("the second call goes on")
	}
	r.shared.SetQuotas(limited(limit.Quotas{}))
	if !r.talk(all[1], media) {
		t.Error("without the limit, the second call is refused")
	}
	if r.pass(time.Second, all...); len(r.allocations.get(clientAt(all[0])).account.calls) != 0 {
		t.Error("calls are still counted")
	}
	if n := r.dropped(event.DropCalls); n != 0 {
		t.Errorf("%d packets were dropped by a check that drops none", n)
	}
}
