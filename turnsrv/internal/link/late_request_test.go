package link

import (
	"testing"

	"github.com/mailturn/mailturn/turnsrv/internal/count"
)

// TestLongRequestsAreNotKept checks that the memory of a long request does not become that of short ones, of which far more may wait.
func TestLongRequestsAreNotKept(t *testing.T) {
	for range 100 {
		r := &lateRequest{b: make([]byte, 64<<10), counters: new(count.Counters)}
		r.Drop()
	}
	for range 100 {
		if r := lateRequests.Get().(*lateRequest); cap(r.b) > keptCapacity {
			t.Fatalf("a request has %d bytes of memory, want at most %d", cap(r.b), keptCapacity)
		}
	}
}
