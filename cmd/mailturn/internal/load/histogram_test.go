package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestPercentiles compares the histogram with sorted durations.
func TestPercentiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h, half Histogram
	var all []time.Duration
	for range 10000 {
		d := time.Duration(math.Exp(r.Float64()*20)) * 10 // 10 ns to 5 s
		all = append(all, d)
		if len(all)%2 == 0 {
			h.Record(d)
		} else {
			half.Record(d)
		}
	}
	h.Add(&half)
	slices.Sort(all)
	for _, p := range []float64{1, 50, 90, 99, 99.9, 100} {
		want := all[max(int(p/100*float64(len(all)))-1, 0)]
		if got := h.Percentile(p); got < want || float64(got) > float64(want)*1.04+1 {
			t.Errorf("percentile %v is %v, want %v to 4 %%", p, got, want)
		}
	}
	if h.Max() != all[len(all)-1] || h.Count() != 10000 {
		t.Errorf("the longest of %d is %v, want %v of 10000", h.Count(), h.Max(), all[len(all)-1])
	}
	if (&Histogram{}).Percentile(50) != 0 {
		t.Error("an empty histogram has a median")
	}
}

// TestBuckets checks that each number is at most the upper end of its bucket, and that buckets are in order.
func TestBuckets(t *testing.T) {
	last := -1
	for _, v := range []uint64{0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 1000, 1 << 20, 1<<20 + 1<<15, 1<<62 + 5, math.MaxInt64} {
		i := bucket(v)
		if i < last || i >= buckets || uint64(upper(i)) < v || bucket(uint64(upper(i))) != i || i > 0 && uint64(upper(i-1)) >= v {
			t.Errorf("%d is in bucket %d after bucket %d, which ends at %d", v, i, last, upper(i))
		}
		last = i
	}
}
