package load

import (
	"math/bits"
	"time"
)

// Each power of two of nanoseconds has 2^subBits buckets, so a percentile has an error of at most 3 %.
const (
	subBits = 5
	buckets = (64 - subBits) << subBits
)

// Histogram counts durations in constant memory. It is not safe for concurrent use.
type Histogram struct {
	counts [buckets]uint64
	n      uint64
	max    time.Duration
}

// Record counts one duration; a negative one as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.n++
	h.max = max(h.max, d)
}

// Add adds the durations of other.
func (h *Histogram) Add(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.n += other.n
	h.max = max(h.max, other.max)
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.n }

// Max returns the longest duration.
func (h *Histogram) Max() time.Duration { return h.max }

// Percentile returns a duration that p percent of all do not exceed, or 0 if there are none. It is up to 3 % too long.
func (h *Histogram) Percentile(p float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	want := uint64(p / 100 * float64(h.n))
	var seen uint64
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= want {
			return min(upper(i), h.max)
		}
	}
	return h.max
}

// bucket returns the index for a number: the position of its highest bit, and the bits after that.
func bucket(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return (shift+1)<<subBits + int(v>>shift)&(1<<subBits-1)
}

// upper returns the largest number of a bucket.
func upper(i int) time.Duration {
	if i < 1<<subBits {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	return time.Duration((uint64(i&(1<<subBits-1))|1<<subBits)<<shift | (1<<shift - 1))
}
