package turntest

import (
	"testing"
	"time"
	"unsafe"
)

// SetClock returns a reading of the clock at the same moment as now, a reading of time.Now, after somebody has set the clock of the
// system by a whole number of seconds. The monotonic clock, which is also part of a reading, is never set.
func SetClock(t testing.TB, now time.Time, by time.Duration) time.Time {
	t.Helper()
	set := now
	// Package time does not offer this. A reading keeps seconds of the wall clock above its 30 bits of nanoseconds.
	*(*uint64)(unsafe.Pointer(&set)) += uint64(by/time.Second) << 30
	if set.Sub(now) != 0 || set.Round(0).Sub(now.Round(0)) != by {
		t.Fatalf("the clock was set from %v to %v: package time must have changed", now, set)
	}
	return set
}
