// Package memory decides how much memory the process uses for what it no longer needs: some while it is busy, so that collecting
// garbage costs little CPU time, and as little as possible while it is idle.
package memory

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Interval is the time between calls of GiveBack.
const Interval = 10 * time.Second

// A Saver decides when to return memory. Only one goroutine may use it.
//
// The runtime collects garbage when the heap has doubled, and keeps freed memory for reuse. After thousands of clients have
// connected and gone idle, a process holds almost as much unused memory as used memory for hours. Collecting more often all the
// time would cost CPU time in each login.
type Saver struct {
	// reserve is never written, so it takes address space, but no memory.
	reserve []byte

	seen  uint64 // bytes allocated in all, at the last look
	saved uint64 // the same, when memory was last given back
}

// NewSaver returns a Saver, which also keeps the runtime from collecting garbage all the time while the heap is small. It is called
// before much else has been allocated, because memory that has been used would have to be cleared.
//
// The runtime collects garbage when the heap has doubled, but not below 4 MiB, so with 1 MiB in use, after every 40 logins. The
// reserve counts as a part of the heap, which may therefore contain that much garbage more, whatever its size.
func NewSaver() *Saver { return &Saver{reserve: make([]byte, smallHeap)} }

// Shares of what is in use: it is quiet if not more than the first has been allocated since the last look, and worth
// the work if the second has been since memory was last given back. A heap below smallHeap counts as that.
const (
	quietShare = 1.0 / 16
	worthShare = 1.0 / 4
	smallHeap  = 8 << 20
)

// GiveBack returns memory to the system if the process is idle and there is enough to return.
func (s *Saver) GiveBack() {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	if s.due(samples[0].Value.Uint64(), samples[1].Value.Uint64()) {
		debug.FreeOSMemory()
	}
}

// due decides, given the bytes allocated since the process began, and those in use at the last collection.
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
