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
	a := r.allocations[clientAt(from)]
	a.silence.Hear(r.now)
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
	s := newSigner(r.bareSession, r.now)
	s.use(r.cred)
	s.from = clientAt(two)
	s.nonce = r.shared.nonces.appendNonce(nil, s.from.Tuple, r.now)
	for method, sets := range map[stun.Method][]turntest.Set{
		stun.MethodCreatePermission: {turntest.PeerAddr(netip.MustParseAddrPort("8.8.8.8:5000"))},
		stun.MethodChannelBind:      {turntest.Channel(0x4000), turntest.PeerAddr(netip.MustParseAddrPort("8.8.8.8:5000"))},
	} {
		if code := codeOf(t, r.take(s.message(method, 9, sets...), s.from, r.now)); code != stun.CodeInsufficientCapacity {
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
	if n := len(r.allocations[clientAt(two)].account.calls); n != 1 {
		t.Errorf("%d calls are counted, want 1", n)
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
	if state := r.allocations[clientAt("192.0.2.1:1")].call.state.Load(); state != inCall {
		t.Errorf("after many checks, the state is %d, want a call", state)
	}
}

// TestNoLimitOnCalls checks that nothing is counted without the limit, and that a limit that is removed lets all calls go on.
func TestNoLimitOnCalls(t *testing.T) {
	r := newRoamers(t, limit.Quotas{})
	r.allocate("192.0.2.1:1")
	if !r.talk("192.0.2.1:1", media) || r.allocations[clientAt("192.0.2.1:1")].call.state.Load() != noCall {
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
	if n := r.dropped(event.DropCalls); n != 0 {
		t.Errorf("%d packets were dropped by a check that drops none", n)
	}
}
