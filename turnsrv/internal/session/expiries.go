package session

import (
	"container/heap"
	"time"
)

// expiries contains the allocations of a session. The first one is that whose relayed address expires first. An idle allocation therefore
// costs nothing until it expires. It implements heap.Interface.
type expiries []expiry

type expiry struct {
	at         time.Duration // since Shared.start; the client may have refreshed it since
	allocation *allocation
}

// schedule records when the first relayed address of a expires. It is called when one is added, and when one may expire earlier.
func (e *expiries) schedule(a *allocation) {
	at := a.expiresFirst()
	if a.expiry == 0 {
		*e = append(*e, expiry{allocation: a})
		a.expiry = len(*e)
	} else if at >= (*e)[a.expiry-1].at {
		return // due looks at it again
	}
	(*e)[a.expiry-1].at = at
	heap.Fix(e, a.expiry-1)
}

// remove removes a.
func (e *expiries) remove(a *allocation) {
	if a.expiry != 0 {
		heap.Remove(e, a.expiry-1)
	}
}

// due returns an allocation of which a relayed address has expired, or nil if there is none. It gives up after the given number of
// allocations that have been refreshed, and then reports that there may be more.
func (e *expiries) due(now time.Duration, refreshed int) (a *allocation, more bool) {
	for ; len(*e) > 0 && (*e)[0].at <= now; refreshed-- {
		if refreshed == 0 {
			return nil, true
		}
		first := &(*e)[0]
		if first.at = first.allocation.expiresFirst(); first.at <= now {
			return first.allocation, true
		}
		heap.Fix(e, 0)
	}
	return nil, false
}

// expiresFirst returns when the first relayed address of a expires, since Shared.start.
func (a *allocation) expiresFirst() time.Duration {
	first := a.addresses[0].expires
	for _, address := range a.addresses[1:] {
		first = min(first, address.expires)
	}
	return first
}

// Len implements heap.Interface.
func (e expiries) Len() int { return len(e) }

// Less implements heap.Interface.
func (e expiries) Less(i, j int) bool { return e[i].at < e[j].at }

// Swap implements heap.Interface.
func (e expiries) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].allocation.expiry, e[j].allocation.expiry = i+1, j+1
}

// Push implements heap.Interface. schedule appends without it, because it would allocate memory.
func (e *expiries) Push(x any) { *e = append(*e, x.(expiry)) }

// Pop implements heap.Interface.
func (e *expiries) Pop() any {
	last := (*e)[len(*e)-1]
	last.allocation.expiry = 0
	(*e)[len(*e)-1] = expiry{}
	*e = (*e)[:len(*e)-1]
	return nil
}
