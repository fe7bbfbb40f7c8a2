package turnsrv

import (
	"net/netip"
	"sync"

	"github.com/mailturn/mailturn/turnsrv/credential"
)

// Quotas bound what clients may have. Zero is no limit, in each field.
type Quotas struct {
	// MaxAllocations bounds the allocations of the server, beyond it a request draws 486.
	MaxAllocations int
	// MaxAllocationsPerUser bounds those of one credential.Subject.
	MaxAllocationsPerUser int
	// MaxAllocationsPerSource bounds those of one IPv4 address or IPv6 /64, behind which there may be many users.
	MaxAllocationsPerSource int

	// MaxBPS bounds what one allocation relays in each direction, in bits of payload a second. Packets beyond it are
	// dropped. A second's worth may come at once.
	MaxBPS int64
	// MaxTotalBPS bounds what all allocations relay together, in the same way.
	MaxTotalBPS int64
}

// quota counts allocations, from before they are made until it is decided that they end. Safe for concurrent use.
type quota struct {
	mu        sync.Mutex // guards what follows
	max       Quotas
	total     int
	bySubject map[credential.Subject]int
	bySource  map[netip.Prefix]int
	empty     []chan struct{} // closed when total falls to 0
}

func newQuota(max Quotas) *quota {
	return &quota{max: max, bySubject: make(map[credential.Subject]int), bySource: make(map[netip.Prefix]int)}
}

// limit replaces the limits. What is there already stays.
func (q *quota) limit(max Quotas) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.max = max
}

// take counts one more allocation for subject at client and returns which quota has no room for it, if there is one.
func (q *quota) take(subject credential.Subject, client netip.Addr) (reached RefusalReason, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	source := sourceHost(client)
	switch {
	case q.max.MaxAllocations > 0 && q.total >= q.max.MaxAllocations:
		return RefusedTotalQuota, false
	case q.max.MaxAllocationsPerUser > 0 && q.bySubject[subject] >= q.max.MaxAllocationsPerUser:
		return RefusedUserQuota, false
	case q.max.MaxAllocationsPerSource > 0 && q.bySource[source] >= q.max.MaxAllocationsPerSource:
		return RefusedSourceQuota, false
	}
	q.total++
	q.bySubject[subject]++
	q.bySource[source]++
	return 0, true
}

// give undoes one take.
func (q *quota) give(subject credential.Subject, client netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	decrement(q.bySubject, subject)
	decrement(q.bySource, sourceHost(client))
	if q.total == 0 {
		for _, waiting := range q.empty {
			close(waiting)
		}
		q.empty = nil
	}
}

// decrement keeps no zeros, so that the map is as large as what it counts.
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

// whenEmpty returns a channel that is closed when no allocation is left.
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
