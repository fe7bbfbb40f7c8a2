package turnsrv

import (
	"maps"
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

// next reports whether a line for key is due, and how many were left out since the last one. Keys beyond those that it
// remembers share one line.
func (s *sampler) next(key string, now time.Time) (skipped int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[key]
	if k == nil && len(s.keys) >= maxSampleKeys {
		maps.DeleteFunc(s.keys, func(_ string, k *sample) bool { return now.Sub(k.last) >= samplePeriod })
		if len(s.keys) >= maxSampleKeys {
			key = ""
			k = s.keys[key]
		}
	}
	if k == nil {
		if s.keys == nil {
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
