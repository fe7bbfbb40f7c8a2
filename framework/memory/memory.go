// Package memory gives back to the system what a process has no use for while little happens.
package memory

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Interval is how often GiveBack wants to be called.
const Interval = 10 * time.Second

// A Saver decides when memory goes back. It is for one goroutine.
//
// The runtime collects when the heap has doubled, and keeps what that has freed for the next time. After a morning on which
// thousands of clients have connected, a process whose connections are idle holds almost as much of what nobody uses as
// of what they need, for hours. To collect more often always would cost CPU time in each login.
type Saver struct {
	seen  uint64 // bytes allocated in all, at the last look
	saved uint64 // the same, when memory was last given back
}

// Shares of what is in use: it is quiet if not more than the first has been allocated since the last look, and worth
// the work if the second has been since memory was last given back. A heap below smallHeap counts as that.
const (
	quietShare = 1.0 / 16
	worthShare = 1.0 / 4
	smallHeap  = 8 << 20
)

// GiveBack gives memory back if it is quiet and there is some.
func (s *Saver) GiveBack() {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	if s.due(samples[0].Value.Uint64(), samples[1].Value.Uint64()) {
		debug.FreeOSMemory()
	}
}

// due decides, given what has been allocated since the process began and what of it was in use at the last collection, in
// bytes.
func (s *Saver) due(allocated, live uint64) bool {
	use := float64(max(live, smallHeap))
	quiet := float64(allocated-s.seen) <= quietShare*use
	s.seen = allocated
	if !quiet || float64(allocated-s.saved) < worthShare*use {
		return false
	}
	s.saved = allocated
	return true
}
