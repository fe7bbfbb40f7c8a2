package memory

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

func TestDue(t *testing.T) {
	const mb = 1 << 20
	var s Saver
	for _, look := range []struct {
		what            string
		allocated, live uint64
		want            bool
	}{
		{"a start", 4 * mb, 1 * mb, false},
		{"and rest", 4 * mb, 1 * mb, true},
		{"nothing has happened", 4 * mb, 1 * mb, false},
		{"many connect", 300 * mb, 60 * mb, false},
		{"and continue", 600 * mb, 60 * mb, false},
		{"it gets quiet", 603 * mb, 60 * mb, true},
		{"and stays so", 606 * mb, 60 * mb, false},
		{"for long", 609 * mb, 60 * mb, false},
		{"until it is worth the work again", 612 * mb, 60 * mb, false},
		{"", 615 * mb, 60 * mb, false},
		{"", 618 * mb, 60 * mb, true},
	} {
		if got := s.due(look.allocated, look.live); got != look.want {
			t.Errorf("%s, %d MB allocated: %v, want %v", look.what, look.allocated/mb, got, look.want)
		}
	}
}

// TestGiveBack checks that the runtime has metrics of these names.
func TestGiveBack(t *testing.T) {
	s := NewSaver()
	s.GiveBack()
	if s.seen == 0 {
		t.Error("no allocations counted")
	}
}

// TestReserve checks that the reserve counts as a part of the heap.
func TestReserve(t *testing.T) {
	goal := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	s := NewSaver()
	runtime.GC()
	metrics.Read(goal)
	if got := goal[0].Value.Uint64(); got < 2*smallHeap {
		t.Errorf("garbage is collected at %d bytes, want at least %d", got, 2*smallHeap)
	}
	runtime.KeepAlive(s)
}
