package limit

import (
	"maps"
	"sync"
	"time"
)

// SamplePeriod is the minimum interval between log lines with the same key.
const SamplePeriod = time.Minute

const maxSampleKeys = 256

// Sampler limits log lines that clients can cause to one per minute for each key, and counts the lines skipped in between. The
// zero value is ready for use. Safe for concurrent use.
type Sampler struct {
	mu   sync.Mutex
	keys map[string]*sample
}

type sample struct {
	last    time.Time
	skipped int
}

// Next reports whether a line for key is due, and the number of lines skipped since the last one. When there are too many keys
// to remember, new keys share one line.
func (s *Sampler) Next(key string, now time.Time) (skipped int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[key]
	if k == nil && len(s.keys) >= maxSampleKeys {
		maps.DeleteFunc(s.keys, func(_ string, k *sample) bool { return now.Sub(k.last) >= SamplePeriod })
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
	if now.Sub(k.last) < SamplePeriod {
		k.skipped++
		return 0, false
	}
	skipped = k.skipped
	*k = sample{last: now}
	return skipped, true
}
