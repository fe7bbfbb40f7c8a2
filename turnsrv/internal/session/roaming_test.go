package session

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// roamers are clients of one user.
type roamers struct {
	*bareSession
	t    *testing.T
	now  time.Time
	cred credential.Credential
}

func newRoamers(t *testing.T, quotas limit.Quotas) *roamers {
	b := newBareSession(t)
	b.shared.SetQuotas(limited(quotas))
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	issuer := credential.Issuer{Secret: credential.NewSecret([]byte(turntest.TestSecret)), TTL: 24 * time.Hour}
	return &roamers{bareSession: b, t: t, now: now, cred: issuer.IssueFor("alice", now)}
}

// allocate requests an allocation from an address with a port, such as 192.0.2.1:1.
func (r *roamers) allocate(from string) stun.ErrorCode {
	r.t.Helper()
	return r.request(from, stun.MethodAllocate, turntest.TransportUDP)
}

// request sends a signed request from an address, and returns the error code of the response, or 0.
func (r *roamers) request(from string, method stun.Method, sets ...turntest.Set) stun.ErrorCode {
	r.t.Helper()
	s := newSigner(r.bareSession, r.now)
	s.use(r.cred)
	s.from = clientAt(from)
	s.nonce = r.shared.nonces.appendNonce(nil, s.from.Tuple, r.now)
	return codeOf(r.t, r.take(s.message(method, 1, sets...), s.from, r.now))
}

// pass lets time pass, in which peers send to all allocations, and the clients of some use theirs.
func (r *roamers) pass(d time.Duration, talking ...string) {
	r.t.Helper()
	for range int(d / time.Second) {
		r.now = r.now.Add(time.Second)
		for a := range r.allocations.all {
			r.stir(a)
			a.addresses[0].toClient.Add(100)
		}
		for _, from := range talking {
			if a := r.allocations.get(clientAt(from)); a != nil {
				a.silence.Hear(r.now.Sub(r.shared.start))
				if a.call.state.Load() == inCall {
					a.mayTalk(media, r.now)
				}
			}
		}
		r.janitor(r.now)
	}
}

// TestRoaming checks that a client whose network has changed is not refused because of its old allocations, which end when they have
// been silent.
func TestRoaming(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxAllocationsPerUser: 3})
	home := []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}
	for _, from := range home {
		r.allocate(from)
	}
	r.pass(time.Minute, home...)
	if code := r.allocate("192.0.2.1:4"); code != stun.CodeAllocationQuotaReached {
		t.Errorf("one more from the same host is answered %d, want 486", code)
	}
	away := []string{"198.51.100.1:1", "198.51.100.1:2", "198.51.100.1:3"}
	for _, from := range away { // an ICE restart on each interface
		if code := r.allocate(from); code != 0 {
			t.Fatalf("after the network has changed, an allocation is answered %d, want 0", code)
		}
	}
	if code := r.allocate("198.51.100.1:4"); code != stun.CodeAllocationQuotaReached {
		t.Errorf("with twice the quota, one more is answered %d, want 486", code)
	}
	r.pass(roamingGrace+2*time.Second, away...)
	for _, from := range home {
		if r.allocations.get(clientAt(from)) != nil {
			t.Errorf("%s is left", from)
		}
	}
	for _, from := range away {
		if r.allocations.get(clientAt(from)) == nil {
			t.Errorf("%s has ended", from)
		}
	}
	if n := r.shared.Counters.Ended[event.EndedSuperseded].Load(); n != 3 {
		t.Errorf("%d were superseded, want 3", n)
	}
	// Back home, where nobody has been for a while.
	r.pass(time.Minute, away...)
	r.allocate(home[0])
	r.pass(time.Minute, away[0], home[0])
	if r.allocations.get(clientAt(home[0])) == nil || r.allocations.get(clientAt(away[0])) == nil || r.allocations.len() != 3 {
		t.Errorf("left: %v", r.allocations)
	}
}

// TestReservesMakeWay checks that a silent allocation on another host makes way at once, although its peer still sends.
func TestReservesMakeWay(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxAllocationsPerUser: 2})
	r.allocate("192.0.2.1:1")
	r.allocate("192.0.2.1:2")
	r.pass(awayAfter, "192.0.2.1:1")
	if code := r.allocate("198.51.100.1:1"); code != 0 {
		t.Errorf("it is answered %d, want 0", code)
	}
	if r.allocations.get(clientAt("192.0.2.1:2")) != nil || r.allocations.len() != 2 {
		t.Errorf("left: %v", r.allocations)
	}
}

// TestTwoDevices checks that a user who uses more than the quota allows, on several hosts, keeps what the user had first, loses the
// rest soon, and gets no more for a time.
func TestTwoDevices(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxAllocationsPerUser: 2})
	all := []string{"192.0.2.1:1", "192.0.2.1:2"}
	for _, from := range all {
		r.allocate(from)
	}
	for i := range 3 {
		r.now = r.now.Add(time.Second)
		from := fmt.Sprintf("198.51.100.%d:1", i)
		if code, want := r.allocate(from), []stun.ErrorCode{0, 0, 486}[i]; code != want {
			t.Errorf("allocation %d from elsewhere is answered %d, want %d", i, code, want)
		}
		all = append(all, from)
	}
	r.pass(roamingGrace, all...)
	if r.allocations.get(clientAt(all[0])) == nil || r.allocations.get(clientAt(all[1])) == nil || r.allocations.len() != 2 {
		t.Errorf("left: %v", r.allocations)
	}
	if n := r.shared.Counters.Ended[event.EndedByUserQuota].Load(); n != 2 {
		t.Errorf("%d ended because of the quota, want 2", n)
	}
	if code := r.allocate(all[2]); code != stun.CodeAllocationQuotaReached {
		t.Errorf("after that, one more from elsewhere is answered %d, want 486", code)
	}
	r.pass(roamingPause, all...)
	if code := r.allocate(all[2]); code != 0 {
		t.Errorf("ten minutes later, it is answered %d, want 0", code)
	}
}

// TestHostsInTurn checks that a user cannot have more than the quota all the time by ending the rest before the grace is over.
func TestHostsInTurn(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxAllocationsPerUser: 1})
	const home = "192.0.2.1:1"
	r.allocate(home)
	for i, want := range []stun.ErrorCode{0, 486, 486} {
		away := fmt.Sprintf("198.51.100.1:%d", 1+i)
		if code := r.allocate(away); code != want {
			t.Errorf("allocation %d from elsewhere is answered %d, want %d", i, code, want)
		}
		r.pass(roamingGrace-time.Second, home, away)
		if r.allocations.get(clientAt(away)) != nil {
			r.Gone(clientAt(away), r.now)
		}
		r.pass(time.Second, home)
	}
}

// TestPrunedAllocations checks that a client that has moved may move again soon, although its ICE agent ends the allocations that it does
// not need before the old ones have fallen silent.
func TestPrunedAllocations(t *testing.T) {
	for quota := 3; quota <= 5; quota++ { // with 4 or 5, what is left after pruning does not exceed the quota
		r := newRoamers(t, limit.Quotas{MaxAllocationsPerUser: quota})
		for network := range 5 {
			var all []string
			for i := range 3 {
				all = append(all, fmt.Sprintf("192.0.2.%d:%d", network, 1+i))
				if code := r.allocate(all[i]); code != 0 {
					t.Fatalf("with a quota of %d, allocation %d on network %d is answered %d, want 0", quota, i, network, code)
				}
			}
			r.pass(3*time.Second, all...)
			r.Gone(clientAt(all[1]), r.now)
			r.Gone(clientAt(all[2]), r.now)
			r.pass(time.Minute, all[0])
			for i := range 2 { // an ICE restart, so that the next network meets full quotas
				all[1+i] = fmt.Sprintf("192.0.2.%d:%d", network, 11+i)
				if code := r.allocate(all[1+i]); code != 0 {
					t.Fatalf("with a quota of %d, reserve %d on network %d is answered %d, want 0", quota, i, network, code)
				}
			}
			r.pass(time.Second, all...)
		}
	}
}

// TestFailedAllocationsWhileRoaming checks that allocations that the server could not make are not held against the user.
func TestFailedAllocationsWhileRoaming(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxAllocationsPerUser: 2})
	const home, away = "192.0.2.1:1", "198.51.100.1:1"
	r.allocate(home)
	r.allocate("192.0.2.1:2")
	r.pass(time.Second, home)
	reserved := turntest.Attr(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)
	if code := r.request(away, stun.MethodAllocate, turntest.TransportUDP, reserved); code != 508 {
		t.Fatalf("an allocation with an unknown reservation is answered %d, want 508", code)
	}
	for _, from := range []string{away, "198.51.100.1:2"} {
		if code := r.allocate(from); code != 0 {
			t.Fatalf("on another network, an allocation is answered %d, want 0", code)
		}
	}
	r.pass(roamingGrace, away, "198.51.100.1:2")
	if code := r.allocate("203.0.113.1:1"); code != 0 {
		t.Errorf("after that, one more from elsewhere is answered %d, want 0", code)
	}
}

// TestRoamingBounds checks, with random clients of one user, that there are never more than twice the quota, and no more than the quota
// for longer than the grace.
func TestRoamingBounds(t *testing.T) {
	r := newRoamers(t, limit.Quotas{MaxAllocationsPerUser: 4})
	random := rand.New(rand.NewPCG(1, 2))
	var beyond time.Duration
	for step := range 5000 {
		r.allocate(fmt.Sprintf("192.0.2.%d:%d", random.IntN(5), 1+step))
		var talking []string
		for a := range r.allocations.all {
			if random.IntN(4) > 0 {
				talking = append(talking, a.client.Tuple.Client.String())
			}
		}
		r.pass(time.Second, talking...)
		if r.allocations.len() > 8 {
			t.Fatalf("%d allocations, want no more than twice the quota", r.allocations.len())
		}
		if beyond += time.Second; r.allocations.len() <= 4 {
			beyond = 0
		}
		if beyond > roamingGrace+2*time.Second {
			t.Fatalf("more than the quota for %v", beyond)
		}
		if counted := r.shared.Allocations(); counted != r.allocations.len() {
			t.Fatalf("%d are counted, there are %d", counted, r.allocations.len())
		}
	}
}
