package pionturn

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pion/turn/v4"

	"github.com/mailturn/mailturn/turnsrv/credential"
)

func TestUserQuota(t *testing.T) {
	config := testConfig(t)
	config.MaxAllocationsPerUser, config.MaxAllocations = 2, 3
	server := start(t, config)
	user := func(name string) *turn.Client {
		return server.client(t, "UDP", credential.Issuer{Secret: oldSecret, TTL: time.Hour}.IssueFor(name, time.Now()))
	}
	first := allocate(t, user("alice"))
	allocate(t, user("alice"))
	if _, err := user("alice").Allocate(); err == nil {
		t.Error("a user has three allocations, want two at most")
	}
	allocate(t, user("bob"))
	if _, err := user("carol").Allocate(); err == nil {
		t.Error("there are four allocations, want three at most")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); server.Allocations() > 2 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	allocate(t, user("carol"))
}

// promises promises allocations to a client until there is no more room, and returns their number.
func promises(q *quota, subject credential.Subject, client netip.AddrPort, now time.Time) (n int) {
	for q.promise(subject, client, now) {
		n++
	}
	return n
}

// TestPromises checks that an allocation counts from the moment at which pion asks about it, and only briefly if it is not made.
func TestPromises(t *testing.T) {
	q := newQuota(Quotas{MaxAllocations: 2})
	now := time.Unix(1758650868, 0)
	client := netip.MustParseAddrPort("192.0.2.1:1")
	alice := credential.Subject{Name: "alice"}
	if n := promises(q, alice, client, now); n != 2 {
		t.Errorf("%d were promised, want 2", n)
	}
	made := tuple{client: client, server: netip.MustParseAddrPort("198.51.100.1:3478")}
	q.made(made)
	now = now.Add(promiseLifetime + 1)
	if n := promises(q, alice, client, now); n != 1 {
		t.Errorf("beside the one that was made %d were promised, want 1", n)
	}
	q.ended(made)
	q.ended(made)
	now = now.Add(promiseLifetime + 1)
	q.promise(alice, client, now)
	if len(q.promised) != 1 || len(q.live) != 0 || len(q.clients) != 0 || q.counts[share{}] != 1 || len(q.counts) != 3 {
		t.Errorf("left over: %+v", q)
	}
}

// TestAnonymousQuota uses one anonymous credential at many addresses.
func TestAnonymousQuota(t *testing.T) {
	q := newQuota(Quotas{MaxAllocationsPerUser: 2, MaxAllocationsPerSource: 3})
	now := time.Unix(1758650868, 0)
	shared := credential.Subject{Name: "1758650868", Anonymous: true}
	at := func(last byte) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, last}), 1)
	}
	for i := range byte(maxAnonymous) {
		if n := promises(q, shared, at(i), now); n != 2 {
			t.Errorf("address %d has %d, want 2", i, n)
		}
	}
	if n := promises(q, shared, at(99), now); n != 0 {
		t.Errorf("one more address has %d with the credential, want none", n)
	}
	if n := promises(q, credential.Subject{Name: "bob"}, at(0), now); n != 1 {
		t.Errorf("an address has %d more, want 1", n)
	}
}
