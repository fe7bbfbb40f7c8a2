package session

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// A client that changes its network allocates again at once, while the server cannot know that nobody uses the old allocations any more.
// So above the quota, a user may have as many more allocations as there are on other hosts, but only for roamingGrace. By then, the
// old ones have fallen silent and end. If they have not, the user has too many, and the latest ones end.
const (
	// awayAfter is how long the client of an allocation must have been silent to be considered gone. Consent checks come about every
	// 5 s, RFC 7675 section 5.1. An allocation in reserve may be silent for longer; it then gives way to one that is wanted now.
	awayAfter = SilentAfter + hearEvery
	// roamingGrace is longer than awayAfter by a few runs of the janitor.
	roamingGrace = 15 * time.Second
	// roamingPause is how long a user gets no grace after one in which the client has not moved, so that a user cannot exceed the limit
	// permanently by means of graces.
	roamingPause = 10 * time.Minute

	// searchRate is how often per second the addresses of a holding are searched because a client may have roamed, so that frequent
	// unsuccessful requests cost little.
	searchRate = 64
)

// excess is the grace during which a holding has more than its user may have. Guarded by quota.mu.
type excess struct {
	graceEnds   atomic.Int64  // nanoseconds since Shared.start; zero while there is no grace; also read without the lock
	strictUntil time.Duration // there is no grace until then
	begun, left int           // during the grace: what has begun beyond the limit, and what has ended because its client was silent
}

// begin allows one more than the limit. It begins a grace unless one has begun, and returns false if there may be none now.
func (e *excess) begin(now time.Duration) bool {
	if ends := time.Duration(e.graceEnds.Load()); ends != 0 && now > ends+2*JanitorPeriod { // nothing was left for a janitor to settle
		e.graceEnds.Store(0)
		e.strictUntil = ends + roamingPause
	}
	if now < e.strictUntil {
		return false
	}
	if e.graceEnds.Load() == 0 {
		e.graceEnds.Store(int64(now + roamingGrace))
		e.begun, e.left = 0, 0
	}
	e.begun++
	return true
}

// settle ends the grace as soon as the client has moved, or when the grace is over, and reports whether it has. over is whether the
// holding has more than the limit, and silent is how much of what it has belongs to silent clients.
//
// The client has moved if for everything that has begun, something else fell silent. If the user has ended it instead, perhaps just
// before the grace was over, it is as if the user still had too many.
func (e *excess) settle(over bool, silent int, now time.Duration) (ended bool) {
	moved := !over && e.left+silent >= e.begun
	ends := e.graceEnds.Load()
	if ends == 0 || int64(now) < ends && !moved {
		return false
	}
	e.graceEnds.Store(0)
	if !moved {
		e.strictUntil = now + roamingPause
	}
	return true
}

// strict is until when those who have nothing here any more, but may have a call on another server, get no grace. Guarded by quota.mu.
type strict struct {
	until map[share]time.Duration // since Shared.start
	next  time.Duration           // when to forget the expired ones
}

// keep remembers a holding that ends. If it ends during a grace, nobody will know whether the client has moved.
func (s *strict) keep(who share, e *excess) {
	until := e.strictUntil
	if ends := e.graceEnds.Load(); ends != 0 && e.left < e.begun {
		until = time.Duration(ends) + roamingPause
	}
	if until > 0 {
		s.until[who] = until
	}
}

// take returns until when there is no grace for a new holding.
func (s *strict) take(who share) time.Duration {
	until := s.until[who]
	delete(s.until, who)
	return until
}

// expire forgets from time to time those who may get a grace again.
func (s *strict) expire(now time.Duration) {
	if now >= s.next {
		s.next = now + roamingPause
		maps.DeleteFunc(s.until, func(_ share, until time.Duration) bool { return now >= until })
	}
}

// away returns the relayed address whose client has been silent longest and is not on the host source, or nil if none of these clients
// seems to be gone.
func (h *holding) away(source netip.Prefix, now time.Time) *relayedAddress {
	var longest *relayedAddress
	most := awayAfter
	for _, r := range h.addresses {
		if silent := r.allocation.silence.For(now.Sub(r.allocation.session.shared.start)); silent >= most && r.allocation.host() != source {
			longest, most = r, silent
		}
	}
	return longest
}

// mayRoam reports whether a client on the host source may have one more relayed address, although its user has perUser of them or more.
func (h *holding) mayRoam(source netip.Prefix, perUser int, now time.Duration) bool {
	elsewhere := 0
	for _, r := range h.addresses {
		if r.allocation.host() != source {
			elsewhere++
		}
	}
	return len(h.addresses)-perUser < min(elsewhere, perUser) && h.roaming.begin(now)
}

func (a *allocation) host() netip.Prefix { return limit.Host(a.client.Tuple.Client.Addr()) }

// settle returns the allocations of a holding that have to end because it has more relayed addresses than its user may have: those whose
// clients have gone, and after the grace the latest ones. The caller must end them.
func (q *quota) settle(h *holding, now time.Time) (gone, latest []*allocation) {
	if h.roaming.graceEnds.Load() == 0 {
		return nil, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.max.MaxAllocationsPerUser == 0 || len(h.addresses) == 0 {
		h.roaming.graceEnds.Store(0)
		return nil, nil
	}
	a := h.addresses[0].allocation
	perUser := max(q.max.MaxAllocationsPerUser-q.held(a.subject), 0)
	at := now.Sub(a.session.shared.start)
	silent := func(r *relayedAddress) time.Duration { return r.allocation.silence.For(at) }
	isAway := func(r *relayedAddress) bool { return silent(r) >= awayAfter }
	inOrder := slices.SortedFunc(slices.Values(h.addresses), func(a, b *relayedAddress) int { return cmp.Compare(silent(b), silent(a)) })
	for _, r := range inOrder {
		if len(h.addresses) > perUser && r.place != gaveWay && isAway(r) {
			before := len(h.addresses)
			gone = append(gone, q.releaseAll(r.allocation, h))
			h.roaming.left += before - len(h.addresses)
		}
	}
	if !h.roaming.settle(len(h.addresses) > perUser, countFunc(h.addresses, isAway), at) {
		return gone, nil
	}
	slices.SortStableFunc(inOrder, func(a, b *relayedAddress) int { return cmp.Compare(b.allocation.since, a.allocation.since) })
	for _, r := range inOrder {
		if len(h.addresses) > perUser && r.place != gaveWay {
			latest = append(latest, q.releaseAll(r.allocation, h))
		}
	}
	return gone, latest
}

// countFunc returns how many elements of s satisfy f.
func countFunc[E any](s []E, f func(E) bool) (n int) {
	for _, e := range s {
		if f(e) {
			n++
		}
	}
	return n
}

// releaseAll removes the relayed addresses of a from its holding h. The caller holds the lock.
func (q *quota) releaseAll(a *allocation, h *holding) *allocation {
	for _, r := range slices.Clone(h.addresses) {
		if r.allocation == a {
			q.release(r)
		}
	}
	return a
}

// settleRoaming ends the allocations that exceed the quota of a's user after the user's client has roamed.
func (s *Session) settleRoaming(a *allocation, now time.Time) {
	gone, latest := s.shared.quota.settle(a.account, now)
	for _, a := range gone {
		a.session.endFor(a, s, event.EndedSuperseded, now)
	}
	for _, a := range latest {
		a.session.endFor(a, s, event.EndedByUserQuota, now)
	}
}
