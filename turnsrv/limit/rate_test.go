package limit

import (
	"sync"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	const bps = 8_000_000 // a megabyte a second
	var b Rate
	passed := func(now time.Duration, packets int) (n int) {
		for range packets {
			if b.Take(8000, bps, bps, now) {
				n++
			}
		}
		return n
	}
	if got := passed(0, 5000); got != 1000 {
		t.Errorf("%d packets at once, want 1000", got)
	}
	if got := passed(100*time.Millisecond, 5000); got != 100 {
		t.Errorf("%d packets a tenth of a second later, want 100", got)
	}
	b.Give(8000, bps)
	if got := passed(100*time.Millisecond, 5); got != 1 {
		t.Errorf("%d packets after one was given back, want 1", got)
	}
	if got := passed(time.Hour, 5000); got != 1000 {
		t.Errorf("%d packets at once after an hour, want 1000", got)
	}
	// A burst larger than one second's refill passes at once, and the debt is forgotten when the rate is raised.
	var slow Rate
	if !slow.Take(500_000, 1000, 524_288, 0) || slow.Take(50_000, 1000, 524_288, 0) {
		t.Error("want one burst and no more")
	}
	if slow.Take(8000, bps, bps, time.Second) || !slow.Take(8000, bps, bps, time.Second+time.Millisecond) {
		t.Error("want an empty bucket when the limit is raised, into which the new rate flows")
	}
}

// Charge also takes tokens that are not available; the bucket owes one burst at most.
func TestRateCharge(t *testing.T) {
	var b Rate
	b.Charge(5000, 1000, 1000, 0)
	if b.Take(1, 1000, 1000, time.Second) {
		t.Error("the bucket is not empty when it owes nothing more")
	}
	if !b.Take(1000, 1000, 1000, 2*time.Second) {
		t.Error("the bucket is not full a second later")
	}
	b.Charge(1, 0, 0, 0)
	if !b.Take(1000, 0, 0, 0) {
		t.Error("a rate of zero is a limit")
	}
}

// Many goroutines together take exactly the allowed number of tokens.
func TestRateIsSharedExactly(t *testing.T) {
	var b Rate
	var mu sync.Mutex
	var all sync.WaitGroup
	passed := 0
	for range 8 {
		all.Go(func() {
			n := 0
			for range 1000 {
				if b.Take(1000*8, 8_000_000, 8_000_000, 0) {
					n++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			passed += n
		})
	}
	all.Wait()
	if passed != 1000 {
		t.Errorf("%d packets passed, want 1000", passed)
	}
}
