package http

import (
	"net/netip"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/limit"
)

// rateLimit limits the requests of each source. It is safe for concurrent use.
type rateLimit struct {
	mu      sync.Mutex
	sources *limit.Sources // nil for no limit
}

// newRateLimit returns a limit of perMinute requests a minute, with a burst of as many. 0 is no limit.
func newRateLimit(perMinute int) *rateLimit {
	if perMinute == 0 {
		return &rateLimit{}
	}
	return &rateLimit{sources: limit.NewSources(time.Minute/time.Duration(perMinute), perMinute, time.Unix(0, 0))}
}

// take asks for a token for source. wait is zero if there was one, else the time after which there will be one.
func (l *rateLimit) take(source netip.Prefix, now time.Time) (wait time.Duration) {
	if l.sources == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sources.Take(source, 1, now) {
		return 0
	}
	return l.sources.Wait(source, 1, now)
}
