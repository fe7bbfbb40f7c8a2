package session

import (
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

// otherServers are the calls of a user on other servers, and what the user has told them to have here.
type otherServers struct {
	n, earlier int
	here       usage.Holding
}

func (o *otherServers) Hold(_ credential.Subject, held usage.Holding) { o.here = held }
func (o *otherServers) Addresses(credential.Subject) int              { return 0 }
func (o *otherServers) Calls(credential.Subject) (n, earlier int)     { return o.n, o.earlier }

func newClustered(t *testing.T) (*roamers, *otherServers) {
	r, other := newRoamers(t, limit.Quotas{MaxCallsPerUser: 1}), new(otherServers)
	r.shared.quota.elsewhere = other
	return r, other
}

const here = "192.0.2.1:1"

// TestCallsOfSeveralServers checks that a call on another server counts, that one which has moved here from there is not refused, and that
// other servers learn what is here: calls, and not what ICE only checks.
func TestCallsOfSeveralServers(t *testing.T) {
	r, other := newClustered(t)
	other.n = 1
	r.allocate(here)
	if r.talk(here, iceCheck); other.here != (usage.Holding{Addresses: 1}) {
		t.Errorf("told before the call: %+v", other.here)
	}
	if !r.talk(here, media) || other.here != (usage.Holding{Addresses: 1, Calls: 1}) {
		t.Errorf("a call that may have moved is refused, or others are told %+v", other.here)
	}
	other.earlier = 1
	r.pass(roamingGrace, here)
	if r.talk(here, media) || other.here.Calls != 0 {
		t.Errorf("the call goes on after the grace, or others are told %+v", other.here)
	}
	if code := r.request(here, stun.MethodCreatePermission, turntest.PeerAddr(turntest.PublicPeer)); code != stun.CodeInsufficientCapacity {
		t.Errorf("a permission is answered %d, want 508", code)
	}
	*other = otherServers{}
	r.pass(callRetry, here)
	if !r.talk(here, media) || other.here.Calls != 1 {
		t.Error("the call is refused although the other one has ended")
	}
	r.pass(time.Minute, here)
	if !r.talk(here, media) {
		t.Error("a call that is alone is refused")
	}
	r.pass(awayAfter)
	if other.here != (usage.Holding{Addresses: 1}) {
		t.Errorf("told after the client has fallen silent: %+v", other.here)
	}
}

// TestCallMovesBetweenServers checks that a call may move between servers again and again.
func TestCallMovesBetweenServers(t *testing.T) {
	r, other := newClustered(t)
	r.allocate(here)
	for i := range 5 {
		other.n = 1
		if !r.talk(here, media) {
			t.Fatalf("move %d: the call is refused", i)
		}
		other.earlier = 1
		r.pass(awayAfter, here)
		other.n, other.earlier = 0, 0
		r.pass(time.Minute, here)
		if !r.talk(here, media) {
			t.Fatalf("move %d: the call is refused later", i)
		}
		r.pass(awayAfter) // it has moved to another server
	}
}

// TestCallsAtOnce checks that of calls that begin on several servers at the same time, those that are not the first are refused after the
// grace, and the first one goes on.
func TestCallsAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name    string
		earlier int
		want    bool
	}{{"the first", 0, true}, {"the second", 1, false}} {
		r, other := newClustered(t)
		r.allocate(here)
		r.talk(here, media)
		r.pass(time.Second, here)
		other.n, other.earlier = 1, tt.earlier
		r.pass(roamingGrace+time.Second, here)
		if got := r.talk(here, media); got != tt.want {
			t.Errorf("%s goes on: %t", tt.name, got)
		}
		if !tt.want { // there is no grace now, nor after the allocation has ended
			r.Gone(clientAt(here), r.now)
			other.n, other.earlier = 0, 0
			r.allocate(here)
			r.talk(here, media)
			other.n, other.earlier = 1, 1
			r.pass(time.Second, here)
			if r.talk(here, media) {
				t.Error("a user who had too many calls gets a grace again at once")
			}
		}
	}
}

// TestCallsOnServersInTurn checks that a user cannot have a second call on another server all the time by ending its allocation before the
// grace is over, and that users who get no grace are not remembered for longer than that.
func TestCallsOnServersInTurn(t *testing.T) {
	r, other := newClustered(t)
	other.n, other.earlier = 1, 1
	both := 0
	for range 30 {
		r.allocate(here)
		for range roamingGrace/time.Second - 1 {
			if r.talk(here, media) {
				both++
			}
			r.pass(time.Second, here)
		}
		r.Gone(clientAt(here), r.now)
		r.now = r.now.Add(time.Second)
	}
	if both >= int(roamingGrace/time.Second) {
		t.Errorf("in less than ten minutes, two calls went on for %d seconds", both)
	}
	other.n, other.earlier = 0, 0
	r.now = r.now.Add(2 * roamingPause)
	r.allocate("192.0.2.2:1")
	if n := len(r.shared.quota.strict.until); n != 0 {
		t.Errorf("%d users are remembered", n)
	}
}
