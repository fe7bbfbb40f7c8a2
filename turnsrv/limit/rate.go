package limit

import (
	"sync/atomic"
	"time"
)

// Rate is a token bucket without a lock, so that packets of different goroutines do not wait for one another. Tokens are
// whatever is limited: bits, or packets. It holds burst tokens, and perSecond come back each second; both are arguments, so that
// a limit can change. The zero value is full. Safe for concurrent use.
type Rate struct {
	full atomic.Int64 // when it is full again, in nanoseconds on the caller's clock
}

// Take takes n tokens and reports whether they were there. A perSecond of zero is no limit. now counts from a moment before the
// first call.
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
			// The limit was raised: what the old one has left is an empty bucket, and no more than that.
			r.full.CompareAndSwap(was, most)
		case full > most:
			return false
		case r.full.CompareAndSwap(was, full):
			return true
		}
	}
}

// Charge takes n tokens whether they are there or not. The bucket then owes what was missing, up to burst tokens.
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

// Give undoes a Take that succeeded.
func (r *Rate) Give(n, perSecond int64) {
	if perSecond > 0 {
		r.full.Add(-refill(n, perSecond))
	}
}

// refill returns in nanoseconds how long n tokens take to come back.
func refill(n, perSecond int64) int64 {
	return int64(float64(n) / float64(perSecond) * float64(time.Second))
}
