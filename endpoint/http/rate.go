package http

import (
	"net/netip"
	"sync"
	"time"
)

// maxSources bounds the memory of a rateLimit, to some megabytes.
const maxSources = 1 << 16

// rateLimit is a token bucket for each source of requests, kept as the moment at which it will be full again (the generic
// cell rate algorithm, ITU-T I.371). It is safe for concurrent use.
type rateLimit struct {
	every time.Duration // a token comes back; zero for no limit
	burst time.Duration // what a full bucket holds, in the time that its tokens take to come back

	mu    sync.Mutex
	full  map[netip.Prefix]time.Time // of buckets that are not full
	sweep time.Time                  // when buckets that are full again are next looked for
}

// newRateLimit returns a limit of perMinute requests a minute, and as many at once. 0 is no limit.
func newRateLimit(perMinute int) *rateLimit {
	if perMinute == 0 {
		return &rateLimit{}
	}
	every := time.Minute / time.Duration(perMinute)
	return &rateLimit{every: every, burst: every * time.Duration(perMinute), full: make(map[netip.Prefix]time.Time)}
}

// take asks for a token for source. wait is zero if there was one, else the time after which there will be one.
func (l *rateLimit) take(source netip.Prefix, now time.Time) (wait time.Duration) {
	if l.every == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	full, known := l.full[source]
	if !known && len(l.full) >= maxSources {
		l.forgetFullLocked(now)
		if len(l.full) >= maxSources {
			source = netip.Prefix{} // a flood from ever new addresses has one bucket for all of them
			full = l.full[source]
		}
	}
	if full.Before(now) {
		full = now
	}
	if after := full.Add(l.every); after.Sub(now) <= l.burst {
		l.full[source] = after
		return 0
	}
	return full.Add(l.every).Sub(now) - l.burst
}

// forgetFullLocked drops the buckets that are full, at most once a second: it looks at all of them.
func (l *rateLimit) forgetFullLocked(now time.Time) {
	if now.Before(l.sweep) {
		return
	}
	l.sweep = now.Add(time.Second)
	for source, full := range l.full {
		if !full.After(now) {
			delete(l.full, source)
		}
	}
}
