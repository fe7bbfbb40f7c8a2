package limit

import (
	"sync/atomic"
	"time"
)

// Rate is a lock-free token bucket, so that packets of different goroutines do not wait for one another. A token is a unit of
// whatever is limited, such as bits or packets. The bucket has a capacity of burst tokens and is refilled with perSecond tokens
// per second. Both are arguments of its methods, so that a limit can be changed. The zero value is full. Safe for concurrent
// use.
type Rate struct {
	full atomic.Int64 // when it is full again, in nanoseconds on the caller's clock
}

// Take takes n tokens and reports whether they were available. A perSecond of zero means no limit. now is the time since a
// fixed moment before the first call.
func (r *Rate) Take(n, perSecond, burst int64, now time.Duration) bool {
	if perSecond == 0 {
		return true
	}
	cost, whole := refill(n, perSecond), refill(burst, perSecond)
	most := int64(now) + whole
	for {
		was := r.full.Load()
		full := max(was, int64(now)) + cost
		switch {
		case was > most+whole:
			// The limit was raised: the bucket is at most empty under the new limit.
			r.full.CompareAndSwap(was, most)
		case full > most:
			return false
		case r.full.CompareAndSwap(was, full):
			return true
		}
	}
}

// Charge takes n tokens whether or not they are available. The bucket can owe up to burst tokens.
func (r *Rate) Charge(n, perSecond, burst int64, now time.Duration) {
	if perSecond == 0 {
		return
	}
	cost, most := refill(n, perSecond), int64(now)+2*refill(burst, perSecond)
	for {
		was := r.full.Load()
		if r.full.CompareAndSwap(was, min(max(was, int64(now))+cost, most)) {
			return
		}
	}
}

// State returns the state of the bucket, for Restore.
func (r *Rate) State() int64 { return r.full.Load() }

// Restore sets the state of the bucket to one that State has returned. The clock of the caller must have gone on meanwhile.
func (r *Rate) Restore(state int64) { r.full.Store(state) }

// Give returns the tokens of a successful Take.
func (r *Rate) Give(n, perSecond int64) {
	if perSecond > 0 {
		r.full.Add(-refill(n, perSecond))
	}
}

// refill returns the number of nanoseconds in which n tokens are refilled.
func refill(n, perSecond int64) int64 {
	return int64(float64(n) / float64(perSecond) * float64(time.Second))
}
