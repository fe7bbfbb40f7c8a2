package session

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

// holdings are what users have on this server and elsewhere.
type holdings struct{ here, elsewhere map[credential.Subject]int }

func (h holdings) Hold(user credential.Subject, held usage.Holding) { h.here[user] = held.Addresses }
func (h holdings) Addresses(user credential.Subject) int            { return h.elsewhere[user] }
func (h holdings) Calls(credential.Subject) (n, earlier int)        { return 0, 0 }

// TestQuotaOfSeveralServers wants what a user has elsewhere to count.
func TestQuotaOfSeveralServers(t *testing.T) {
	alice, anonymous := credential.Subject{Name: "alice"}, credential.Subject{Name: "1800000000", Anonymous: true}
	h := holdings{make(map[credential.Subject]int), map[credential.Subject]int{alice: 3, anonymous: 100}}
	q := newQuota(limit.Quotas{MaxAllocationsPerUser: 5}, h)
	now := time.Unix(1_800_000_000, 0)
	shared := &Shared{start: now, quota: q}
	take := func(subject credential.Subject, port uint16) (*relayedAddress, event.RefusalReason, bool) {
		client := Client{Tuple: event.FiveTuple{Client: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)}}
		r := &relayedAddress{allocation: &allocation{session: &Session{shared: shared}, subject: subject, client: client}}
		_, reason, ok := q.take(r, now)
		return r, reason, ok
	}
	first, _, ok := take(alice, 1)
	if _, _, second := take(alice, 2); !ok || !second {
		t.Fatal("refused below the limit")
	}
	h.elsewhere[alice] = 5
	if _, reason, ok := take(alice, 3); ok || reason != event.RefusedUserQuota {
		t.Errorf("with 2 here and 5 elsewhere: %v, %v", reason, ok)
	}
	if _, _, ok := take(anonymous, 4); !ok {
		t.Error("several people are counted as one")
	}
	if _, known := h.here[anonymous]; known || h.here[alice] != 2 {
		t.Errorf("here: %v", h.here)
	}
	q.give(first)
	if h.here[alice] != 1 {
		t.Errorf("here: %v", h.here)
	}
	bob := credential.Subject{Name: "bob"}
	h.elsewhere[bob] = 5
	if _, reason, ok := take(bob, 5); ok || reason != event.RefusedUserQuota {
		t.Errorf("with nothing here and 5 elsewhere: %v, %v", reason, ok)
	}
}

// TestRoamingWithSeveralServers checks that a user who has more than the quota here and elsewhere together loses the rest after the grace.
func TestRoamingWithSeveralServers(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxAllocationsPerUser: 3})
	alice := credential.Subject{Name: "alice"}
	r.shared.quota.elsewhere = holdings{make(map[credential.Subject]int), map[credential.Subject]int{alice: 1}}
	all := []string{"192.0.2.1:1", "192.0.2.1:2", "198.51.100.1:1"}
	for _, from := range all {
		if code := r.allocate(from); code != 0 {
			t.Fatalf("%s is answered %d, want 0", from, code)
		}
		r.pass(time.Second, all...)
	}
	r.pass(roamingGrace, all...)
	if r.allocations.get(clientAt(all[2])) != nil || r.allocations.len() != 2 {
		t.Errorf("left: %v, want the first two", r.allocations)
	}
}
