package session

import (
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

// TestDailyBytes checks that the allocations of a user end that relay more than the user may today, that further ones are refused until
// the day is over, and that other users are not affected.
func TestDailyBytes(t *testing.T) {
	b := newBareSession(t)
	b.shared.SetQuotas(limited(limit.Quotas{MaxBytesPerUserPerDay: 1000}))
	now := time.Date(2026, 11, 30, 22, 0, 0, 0, time.UTC)
	issuer := credential.Issuer{Secret: credential.NewSecret([]byte(turntest.TestSecret)), TTL: 24 * time.Hour}
	allocate := func(name, from string) (Client, stun.ErrorCode) {
		t.Helper()
		s := newSigner(b, now)
		s.use(issuer.IssueFor(name, now))
		s.from = clientAt(from)
		s.nonce = b.shared.nonces.appendNonce(nil, s.from.Tuple, now)
		return s.from, codeOf(t, b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now))
	}
	relay := func(from Client, toPeer, toClient int) {
		b.stir(b.allocations.get(from))
		b.allocations.get(from).addresses[0].toPeer.Add(toPeer)
		b.allocations.get(from).addresses[0].toClient.Add(toClient)
	}
	second := func() { now = now.Add(time.Second); b.janitor(now) }

	phone, _ := allocate("alice", "192.0.2.1:1")
	idle, _ := allocate("alice", "192.0.2.1:2")
	bob, _ := allocate("bob", "192.0.2.1:3")
	relay(phone, 400, 400)
	relay(bob, 400, 500)
	second()
	if b.allocations.len() != 3 {
		t.Fatalf("%d allocations below the limit, want 3", b.allocations.len())
	}
	relay(phone, 100, 100)
	second()
	if b.allocations.get(phone) != nil || b.allocations.get(idle) == nil || b.allocations.get(bob) == nil {
		t.Errorf("at the limit, these are left: %v", b.allocations)
	}
	if n := b.shared.Counters.Ended[event.EndedByDailyBytes].Load(); n != 1 {
		t.Errorf("%d allocations ended for that reason, want 1", n)
	}
	if _, code := allocate("alice", "198.51.100.1:1"); code != stun.CodeAllocationQuotaReached {
		t.Errorf("one more of the user is answered %d, want 486", code)
	}
	if n := b.shared.Counters.Refused[event.RefusedDailyBytes].Load(); n != 1 {
		t.Errorf("%d were refused for that reason, want 1", n)
	}
	relay(idle, 1, 0)
	second()
	if b.allocations.get(idle) != nil {
		t.Error("another allocation of the user relays after the limit was reached")
	}
	now = now.Add(2 * time.Hour)
	if _, code := allocate("alice", "198.51.100.1:1"); code != 0 {
		t.Errorf("the next day, one more of the user is answered %d, want 0", code)
	}
}

// TestShortAllocationsAreMetered checks that what an allocation has relayed counts if it ends before the janitor runs, and that an
// anonymous credential, which may be that of several people, has a limit for each address.
func TestShortAllocationsAreMetered(t *testing.T) {
	b := newBareSession(t)
	var day usage.Day
	b.shared.config.Meter = &day
	b.shared.SetQuotas(limited(limit.Quotas{MaxBytesPerUserPerDay: 1000}))
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	allocate := func(from string) (Client, stun.ErrorCode) {
		s := newSigner(b, now)
		s.from = clientAt(from)
		s.nonce = b.shared.nonces.appendNonce(nil, s.from.Tuple, now)
		return s.from, codeOf(t, b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now))
	}
	from, _ := allocate("192.0.2.1:1")
	b.stir(b.allocations.get(from))
	b.allocations.get(from).addresses[0].toPeer.Add(1000)
	b.Gone(from, now)
	if _, code := allocate("192.0.2.1:2"); code != stun.CodeAllocationQuotaReached {
		t.Errorf("after an allocation that has ended, another one is answered %d, want 486", code)
	}
	if _, code := allocate("192.0.2.2:1"); code != 0 {
		t.Errorf("from another address, it is answered %d, want 0", code)
	}
	if _, totals := day.Totals(); len(totals) != 1 {
		t.Errorf("%d users are counted, want 1: %v", len(totals), totals)
	}
}
