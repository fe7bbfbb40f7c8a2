package session

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/kernel"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

const (
	// IdleAfter is how long an allocation must have relayed nothing before another allocation of the same user can replace it.
	// Pauses in media are shorter: consent is checked about every 5 s and expires after 30 s (RFC 7675 section 5.1), and ICE
	// agents check reserve pairs every 25 s.
	IdleAfter = time.Minute
	// maxAnonymous is how many sources can use the full per-user quota with one anonymous credential.
	maxAnonymous = 10
)

// quota counts relayed addresses, from before they are opened until after they are closed. Safe for concurrent use.
type quota struct {
	mu        sync.Mutex // guards what follows, and relayedAddress.place and roamed
	max       limit.Quotas
	total     int
	byShare   index[share, *holding]
	anonymous map[credential.Subject]int
	bySource  map[netip.Prefix]int
	empty     []chan struct{} // closed when total falls to 0
	elsewhere usage.Holdings  // nil if there are no other servers
	strict    strict
}

// share identifies what MaxAllocationsPerUser limits.
type share struct {
	subject credential.Subject
	source  netip.Prefix // for an anonymous subject, otherwise zero
}

// holding contains the relayed addresses of a share, of which there is at least one until it ends.
type holding struct {
	following *holding // see index

	packets [numDirections]limit.Rate // safe for concurrent use
	kernel  kernel.Share              // owned by Config.Kernel

	addresses []*relayedAddress // unordered
	noneIdle  time.Duration     // since Shared.start; until then, no address has been idle for IdleAfter
	roaming   excess
	calls     []*allocation // those in a call, in the order of its beginning
	moving    excess        // of calls
	// review is until when calls are compared with those on other servers, since Shared.start, or zero; also read without the lock.
	// callsElsewhere is how many calls there were when this was last done.
	review         atomic.Int64
	callsElsewhere int
	searches       limit.Rate // of addresses whose client may have roamed
}

func (h *holding) identity() share { return shareOf(h.addresses[0].allocation) }
func (h *holding) next() **holding { return &h.following }

// gaveWay is the place of a relayed address that is no longer in a holding.
const gaveWay = -1

func newQuota(max limit.Quotas, elsewhere usage.Holdings) *quota {
	return &quota{
		max: max, elsewhere: elsewhere,
		byShare: newIndex[share, *holding](), anonymous: make(map[credential.Subject]int), bySource: make(map[netip.Prefix]int),
		strict: strict{until: make(map[share]time.Duration)},
	}
}

// limit replaces the limits. Existing allocations are kept.
func (q *quota) limit(max limit.Quotas) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.max = max
}

// take counts r, or returns the quota that is exhausted. If replaced is not nil, r has replaced it, and the caller must end its
// allocation.
func (q *quota) take(r *relayedAddress, now time.Time) (replaced *relayedAddress, reached event.RefusalReason, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := r.allocation
	source, held, at := a.host(), q.byShare.get(shareOf(a)), now.Sub(a.session.shared.start)
	q.strict.expire(at)
	perUser := q.max.MaxAllocationsPerUser
	others := 0
	if perUser > 0 {
		others = q.held(a.subject)
	}
	switch {
	case q.max.MaxAllocations > 0 && q.total >= q.max.MaxAllocations:
		return nil, event.RefusedTotalQuota, false
	case q.max.MaxAllocationsPerSource > 0 && q.bySource[source] >= q.max.MaxAllocationsPerSource:
		return nil, event.RefusedSourceQuota, false
	case perUser > 0 && held == nil && others >= perUser:
		return nil, event.RefusedUserQuota, false
	case perUser > 0 && held != nil && len(held.addresses)+others >= perUser:
		if replaced = held.idle(at); replaced == nil {
			if !held.searches.Take(1, searchRate, searchRate, at) {
				return nil, event.RefusedUserQuota, false
			}
			replaced = held.away(source, now)
		}
		if replaced != nil {
			q.release(replaced)
		} else if r.roamed = held.mayRoam(source, perUser-others, at); !r.roamed {
			return nil, event.RefusedUserQuota, false
		}
	case perUser > 0 && q.anonymous[a.subject] >= maxAnonymous*perUser:
		return nil, event.RefusedUserQuota, false
	}
	q.total++
	q.bySource[source]++
	q.hold(r)
	return replaced, 0, true
}

// shares reports whether what a subject has on other servers counts here.
func (q *quota) shares(subject credential.Subject) bool {
	return q.elsewhere != nil && !subject.Anonymous
}

// held returns how many relayed addresses a subject has on other servers.
func (q *quota) held(subject credential.Subject) int {
	if !q.shares(subject) {
		return 0
	}
	return q.elsewhere.Addresses(subject)
}

// tell tells other servers what a subject has here. The caller holds the lock.
func (q *quota) tell(subject credential.Subject, h *holding) {
	if q.shares(subject) {
		q.elsewhere.Hold(subject, usage.Holding{Addresses: len(h.addresses), Calls: len(h.calls)})
	}
}

// keep counts r, which another process has had, whatever the limits are.
func (q *quota) keep(r *relayedAddress) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total++
	q.bySource[r.allocation.host()]++
	q.hold(r)
}

// untake undoes the take of a relayed address that could not be opened. Of a grace, it has used nothing.
func (q *quota) untake(r *relayedAddress) {
	q.mu.Lock()
	if e := &r.allocation.account.roaming; r.roamed && e.begun > 0 { // unless that grace has ended since
		e.begun--
	}
	q.mu.Unlock()
	q.give(r)
}

// give undoes one take or keep.
func (q *quota) give(r *relayedAddress) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	decrement(q.bySource, r.allocation.host())
	if r.place != gaveWay {
		q.release(r)
	} else {
		q.endCall(r.allocation) // it may have begun since
	}
	if q.total == 0 {
		for _, waiting := range q.empty {
			close(waiting)
		}
		q.empty = nil
	}
}

// shareOf returns the share of a.
func shareOf(a *allocation) share {
	if a.subject.Anonymous {
		return share{a.subject, a.host()}
	}
	return share{subject: a.subject}
}

// hold adds r to its holding. The caller holds the lock.
func (q *quota) hold(r *relayedAddress) {
	subject, share := r.allocation.subject, shareOf(r.allocation)
	held := q.byShare.get(share)
	if held == nil {
		held = &holding{addresses: []*relayedAddress{r}}
		held.moving.strictUntil = q.strict.take(share)
		q.byShare.add(held)
	} else {
		held.addresses = append(held.addresses, r)
	}
	r.place, r.allocation.account = len(held.addresses)-1, held
	if subject.Anonymous {
		q.anonymous[subject]++
	}
	q.tell(subject, held)
}

// release removes r from its holding. The caller holds the lock.
func (q *quota) release(r *relayedAddress) {
	subject, held := r.allocation.subject, r.allocation.account
	last := len(held.addresses) - 1
	if last == 0 {
		q.byShare.remove(held)
	}
	moved := held.addresses[last]
	held.addresses[r.place], moved.place = moved, r.place
	held.addresses[last], held.addresses = nil, held.addresses[:last]
	r.place = gaveWay
	if !slices.ContainsFunc(held.addresses, func(other *relayedAddress) bool { return other.allocation == r.allocation }) {
		q.endCall(r.allocation)
	}
	if last == 0 && q.shares(subject) {
		q.strict.keep(shareOf(r.allocation), &held.moving)
	}
	if subject.Anonymous {
		decrement(q.anonymous, subject)
	}
	q.tell(subject, held)
}

// idle returns the relayed address that has been idle longest, or nil if none has been idle for IdleAfter. It searches all of
// them only if one may have been, so frequent unsuccessful requests cost little.
func (h *holding) idle(now time.Duration) *relayedAddress {
	if now < h.noneIdle {
		return nil
	}
	longest := h.addresses[0]
	for _, r := range h.addresses[1:] {
		if r.allocation.active.Load() < longest.allocation.active.Load() {
			longest = r
		}
	}
	h.noneIdle = time.Duration(longest.allocation.active.Load()) + IdleAfter
	if now < h.noneIdle {
		return nil
	}
	return longest
}

// decrement deletes entries that reach zero, so that the map stays as small as its contents.
func decrement[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

func (q *quota) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total
}

// whenEmpty returns a channel that is closed when no allocation remains.
func (q *quota) whenEmpty() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := make(chan struct{})
	if q.total == 0 {
		close(waiting)
	} else {
		q.empty = append(q.empty, waiting)
	}
	return waiting
}
