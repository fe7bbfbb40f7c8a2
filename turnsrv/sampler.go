package turnsrv

import (
	"sync"
	"time"
)

const (
	samplePeriod  = time.Minute
	maxSampleKeys = 256
)

// sampler thins out log lines that clients can cause: one a minute for each key, with the number of those left out.
type sampler struct {
	mu   sync.Mutex
	keys map[string]*sample
}

type sample struct {
	last    time.Time
	skipped int
}

// next reports whether a line for key is due, and how many were left out since the last one. When there are more keys
// than it remembers, it forgets all of them.
func (s *sampler) next(key string, now time.Time) (skipped int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[key]
	if k == nil {
		if s.keys == nil || len(s.keys) >= maxSampleKeys {
			s.keys = make(map[string]*sample)
		}
		s.keys[key] = &sample{last: now}
		return 0, true
	}
	if now.Sub(k.last) < samplePeriod {
		k.skipped++
		return 0, false
	}
	skipped = k.skipped
	*k = sample{last: now}
	return skipped, true
}
