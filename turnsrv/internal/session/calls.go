package session

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/limit"
)

// An allocation is in a call once it relays anything other than ICE connectivity checks: DTLS or media (RFC 7983). Of an ICE agent's
// allocations, at most one does: that of the selected pair. MaxCallsPerUser limits those of one user. As with allocations, a call may
// have moved to another one: see roaming.go.

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
)

// mayTalk reports whether data from the client may be relayed with regard to the number of the user's calls. Safe for concurrent use.
func (a *allocation) mayTalk(data []byte, now time.Time) bool {
	most := a.session.shared.limits.Load().MaxCallsPerUser
	if most == 0 {
		return true
	}
	if a.call.state.Load() == inCall {
		return true
	}
	at := now.Sub(a.session.shared.start)
	if isCheck(data) && a.call.checks[toPeer].Take(1, checkRate, checkBurst, at) {
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
	if len(h.calls) >= most {
		q.leaveSilent(h, most-1, now)
	}
	if len(h.calls) >= most && (len(h.calls) >= 2*most || !h.moving.begin(at)) {
		a.call.again.Store(int64(at + callRetry))
		a.call.state.Store(refusedCall)
		return false
	}
	h.calls = append(h.calls, a)
	a.call.state.Store(inCall)
	return true
}

// endCall ends the call of a, if it is in one. The caller holds the lock.
func (q *quota) endCall(a *allocation, state callState) {
	if a.call.state.Swap(state) == inCall {
		a.account.calls = slices.DeleteFunc(a.account.calls, func(other *allocation) bool { return other == a })
	}
}

// leaveSilent ends calls whose clients are silent, the most silent ones first, until no more than the given number is left. The caller
// holds the lock.
func (q *quota) leaveSilent(h *holding, left int, now time.Time) {
	silent := func(a *allocation) time.Duration { return a.silence.For(now) }
	for _, a := range slices.SortedFunc(slices.Values(h.calls), func(a, b *allocation) int { return cmp.Compare(silent(b), silent(a)) }) {
		if len(h.calls) > left && silent(a) >= awayAfter {
			q.endCall(a, noCall)
			h.moving.left++
		}
	}
}

// settleCalls refuses the calls that exceed the limit of a's user after the grace for calls that move from one allocation to another. It
// takes back from the kernel what is not counted.
func (s *Session) settleCalls(a *allocation, now time.Time) {
	most := s.shared.limits.Load().MaxCallsPerUser
	if a.account.moving.graceEnds.Load() != 0 {
		s.shared.quota.settleCalls(a.account, most, now.Sub(s.shared.start), now)
	}
	if most > 0 && a.call.state.Load() != inCall { // a silent client must come back to be counted
		for _, c := range a.peers.channels.all() {
			c.endOffload(now)
		}
	}
}

func (q *quota) settleCalls(h *holding, most int, at time.Duration, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if most == 0 {
		h.moving.graceEnds.Store(0)
		return
	}
	q.leaveSilent(h, most, now)
	silent := countFunc(h.calls, func(a *allocation) bool { return a.silence.For(now) >= awayAfter })
	if h.moving.settle(len(h.calls) > most, silent, at) && len(h.calls) > most {
		for _, a := range slices.Clone(h.calls[most:]) { // the latest ones
			a.call.again.Store(int64(at + callRetry))
			q.endCall(a, refusedCall)
		}
	}
}
