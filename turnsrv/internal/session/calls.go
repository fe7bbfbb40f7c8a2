package session

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// An allocation is in a call once it relays anything other than ICE connectivity checks: DTLS or media (RFC 7983). Of an ICE agent's
// allocations, at most one does: that of the selected pair. The call ends once the client has sent nothing but checks for awayAfter, as on
// the pair of a network that it has left. MaxCallsPerUser limits the calls of one user. As with allocations, a call may have moved to
// another one: see roaming.go.
//
// In a cluster, the calls on other servers count, too. If calls begin on several servers at once, each server learns a moment later which
// ones were earlier.

// callState is the state of an allocation.
type callState = int32

const (
	noCall      callState = iota
	inCall                // counted
	refusedCall           // was refused: see callRefused
)

// Only data from the client begins a call. Otherwise, a peer could take all calls of a user with a packet to each allocation.

// call is the part of an allocation that is about its call. Safe for concurrent use.
type call struct {
	state  atomic.Int32              // a callState
	again  atomic.Int64              // when to ask again after a refusal, since Shared.start
	heard  atomic.Int64              // when the client last sent something other than checks, up to hearEvery too early, since Shared.start
	checks [numDirections]limit.Rate // what looks like checks of ICE, but may be anything
	early  limit.Rate                // what peers send before the client does
}

const (
	// A client that sends more checks than these per second, or longer ones, is in a call. An ICE agent sends one every 20 to 50 ms
	// until a pair is selected, and as many responses; then one every few seconds per pair. So the burst lasts for more than the time
	// that it takes to connect, while the rate is too low for voice (50 packets per second), whatever it looks like.
	checkRate   = 10
	checkBurst  = 500
	maxCheckLen = 576
	// callRetry is how long an allocation whose call was refused is not counted again.
	callRetry = time.Second
	// callReview is for how long after the beginning of a call it is compared with the calls on other servers.
	callReview = 3 * time.Second
)

// hear records that the client has sent something other than checks. Safe for concurrent use.
func (c *call) hear(at time.Duration) {
	if int64(at)-c.heard.Load() >= int64(hearEvery) { // see Silence
		c.heard.Store(int64(at))
	}
}

// silent reports whether a is in a call whose client has left it. Safe for concurrent use.
func (c *call) silent(at time.Duration) bool {
	return c.state.Load() == inCall && at-time.Duration(c.heard.Load()) >= awayAfter
}

// mayTalk reports whether data from the client may be relayed with regard to the number of the user's calls. Safe for concurrent use.
func (a *allocation) mayTalk(data []byte, now time.Time) bool {
	most := a.session.shared.limits.Load().MaxCallsPerUser
	if most == 0 {
		return true
	}
	at := now.Sub(a.session.shared.start)
	if isCheck(data) && a.call.checks[toPeer].Take(1, checkRate, checkBurst, at) {
		return true
	}
	if a.call.state.Load() == inCall {
		a.call.hear(at)
		return true
	}
	if a.callRefused(now) {
		return false
	}
	return a.session.shared.quota.beginCall(a, most, now)
}

// mayHear reports whether data from a peer may be relayed with regard to the number of the user's calls. A peer may be the first to
// talk, but only for as long as a client takes to send something, too. Safe for concurrent use.
func (a *allocation) mayHear(data []byte, now time.Time) bool {
	if a.session.shared.limits.Load().MaxCallsPerUser == 0 {
		return true
	}
	if a.call.state.Load() == inCall {
		return true
	}
	at := now.Sub(a.session.shared.start)
	if isCheck(data) {
		return a.call.checks[toClient].Take(1, checkRate, checkBurst, at)
	}
	return !a.callRefused(now) && a.call.early.Take(1, checkRate, checkBurst, at)
}

// callRefused reports whether a call of a was refused just now. A client that goes on sending is refused again every callRetry; one that
// does not, because its permissions have expired, can begin another call. Safe for concurrent use.
func (a *allocation) callRefused(now time.Time) bool {
	s := a.session.shared
	return s.limits.Load().MaxCallsPerUser > 0 && a.call.state.Load() == refusedCall && now.Sub(s.start) < time.Duration(a.call.again.Load())
}

// isCheck reports whether data may be a check of ICE, which is a short STUN message, RFC 8489 section 5.
func isCheck(data []byte) bool {
	const cookie = 0x2112A442
	return len(data) >= 20 && len(data) <= maxCheckLen && data[0] < 4 && binary.BigEndian.Uint32(data[4:]) == cookie &&
		int(binary.BigEndian.Uint16(data[2:]))+20 == len(data)
}

// beginCall counts a call of a, and reports whether its user may have one more.
func (q *quota) beginCall(a *allocation, most int, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := a.account
	if a.call.state.Load() == inCall {
		return true
	}
	at := now.Sub(a.session.shared.start)
	elsewhere, _ := q.callsElsewhere(a.subject)
	if all := len(h.calls) + elsewhere; all >= most && (all >= 2*most || !h.moving.begin(at)) {
		a.call.refuse(at)
		return false
	}
	h.calls = append(h.calls, a)
	a.call.heard.Store(int64(at))
	a.call.state.Store(inCall)
	h.callsElsewhere = elsewhere
	if q.shares(a.subject) {
		h.review.Store(int64(at + callReview))
	}
	q.tell(a.subject, h)
	return true
}

// refuse makes the allocation wait before its call is counted again.
func (c *call) refuse(at time.Duration) {
	c.again.Store(int64(at + callRetry))
	c.state.Store(refusedCall)
}

// endCall ends the call of a, if it is in one, and reports whether it was. The caller holds the lock.
func (q *quota) endCall(a *allocation) bool {
	if a.call.state.Swap(noCall) != inCall {
		return false
	}
	h := a.account
	h.calls = slices.DeleteFunc(h.calls, func(other *allocation) bool { return other == a })
	q.tell(a.subject, h)
	return true
}

// leaveCall ends the call of a because its client has left it, or calls are not counted any more.
func (q *quota) leaveCall(a *allocation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.endCall(a) {
		a.account.moving.left++
	}
}

// callsElsewhere returns how many calls a subject has on other servers, and how many of these were there before the latest one here.
func (q *quota) callsElsewhere(subject credential.Subject) (n, earlier int) {
	if !q.shares(subject) {
		return 0, 0
	}
	return q.elsewhere.Calls(subject)
}

// settleCalls ends the call of a if its client has left it, and refuses the calls that exceed the limit of a's user after the grace for
// calls that move from one allocation to another. It takes back from the kernel what is not counted.
func (s *Session) settleCalls(a *allocation, now time.Time) {
	most, at := s.shared.limits.Load().MaxCallsPerUser, now.Sub(s.shared.start)
	if a.call.silent(at) || most == 0 && a.call.state.Load() == inCall {
		s.shared.quota.leaveCall(a)
	}
	if a.account.moving.graceEnds.Load() != 0 || a.account.review.Load() != 0 {
		s.shared.quota.settleCalls(a.account, a.subject, most, at)
	}
	if most > 0 && a.call.state.Load() != inCall { // a silent client must come back to be counted
		for _, c := range a.peers.channels.all() {
			c.endOffload(now)
		}
	}
}

func (q *quota) settleCalls(h *holding, subject credential.Subject, most int, at time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if most == 0 {
		h.moving.graceEnds.Store(0)
		h.review.Store(0)
		return
	}
	elsewhere, earlier := q.callsElsewhere(subject)
	over := len(h.calls)+earlier > most
	if review := h.review.Load(); review != 0 && (over || int64(at) >= review) {
		h.review.Store(0)
		if over && h.moving.graceEnds.Load() == 0 && !h.moving.begin(at) {
			q.refuseLatest(h, subject, most-earlier, at)
			return
		}
	}
	h.moving.left += max(h.callsElsewhere-elsewhere, 0) // fallen silent, or hung up: other servers do not say which
	h.callsElsewhere = elsewhere
	if h.moving.settle(over, 0, at) && over {
		q.refuseLatest(h, subject, most-earlier, at)
	}
}

// refuseLatest refuses the latest calls of a holding, so that no more than the given number is left. The caller holds the lock.
func (q *quota) refuseLatest(h *holding, subject credential.Subject, left int, at time.Duration) {
	left = max(left, 0)
	for _, a := range h.calls[left:] {
		a.call.refuse(at)
	}
	h.calls = slices.Delete(h.calls, left, len(h.calls))
	q.tell(subject, h)
}
