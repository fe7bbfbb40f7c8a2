package loop

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// noted is a task that records whether it was done or dropped.
type noted struct {
	name          string
	done, dropped *[]string
}

func (n noted) Do(time.Time) { *n.done = append(*n.done, n.name) }
func (n noted) Drop()        { *n.dropped = append(*n.dropped, n.name) }

// TestLateTasksAreShared adds far more tasks of one network than can wait. The tasks of other networks must still be done, in
// order.
func TestLateTasksAreShared(t *testing.T) {
	var l late
	var done, dropped []string
	flooding, honest := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	refused := 0
	for i := range 100 * maxLate {
		if l.admits(flooding, 100) {
			l.add(flooding, 100, noted{"flood", &done, &dropped})
		} else {
			refused++
		}
		if i > maxLate && !l.admits(honest, 100) {
			t.Fatalf("after %d tasks of one network, no task of another can wait", i+1)
		}
		switch i {
		case 10:
			l.add(honest, 100, noted{"first", &done, &dropped})
		case 50 * maxLate:
			l.add(honest, 100, noted{"second", &done, &dropped})
		}
	}
	if l.tasks.Len() != maxLate {
		t.Errorf("%d tasks wait, want %d", l.tasks.Len(), maxLate)
	}
	for task := l.next(); task != nil; task = l.next() {
		task.Do(time.Time{})
	}
	first, second := slices.Index(done, "first"), slices.Index(done, "second")
	if first != 10 || second < first || slices.Contains(dropped, "first") || slices.Contains(dropped, "second") {
		t.Errorf("the tasks of another network are number %d and %d of those done, and %q were dropped", first, second, dropped)
	}
	if len(dropped) != 1 || len(done)+len(dropped)+refused != 100*maxLate+2 {
		t.Errorf("%d done, %d dropped, %d refused, want 1 dropped and %d together", len(done), len(dropped), refused, 100*maxLate+2)
	}
	if !l.empty() || l.bytes != 0 || l.crowd.Len() != 0 {
		t.Errorf("%d tasks, %d bytes and %d members remain", l.tasks.Len(), l.bytes, l.crowd.Len())
	}
}

// TestLateTasksAreBounded adds tasks that refer to much memory.
func TestLateTasksAreBounded(t *testing.T) {
	var l late
	var done, dropped []string
	for range 100 {
		l.add(netip.MustParseAddr("192.0.2.1"), maxLateBytes/4, noted{"", &done, &dropped})
		if l.bytes > maxLateBytes {
			t.Fatalf("the tasks refer to %d bytes", l.bytes)
		}
	}
	if l.tasks.Len() != 4 || len(dropped) != 96 {
		t.Errorf("%d tasks wait and %d were dropped, want 4 and 96", l.tasks.Len(), len(dropped))
	}
	l.add(netip.MustParseAddr("192.0.2.1"), maxLateBytes+1, noted{"", &done, &dropped})
	if !l.empty() || l.bytes != 0 {
		t.Errorf("a task that refers to too much waits")
	}
}
