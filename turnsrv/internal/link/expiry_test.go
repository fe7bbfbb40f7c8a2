package link

import (
	"testing"
	"time"
)

// TestExpirySetsTheAlarm checks that the alarm is set to the time of the first stream that is due, after streams were removed or
// extended.
func TestExpirySetsTheAlarm(t *testing.T) {
	var ring time.Time
	e := expiry{alarm: func(at time.Time) { ring = at }}
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	a, b, c := new(stream), new(stream), new(stream)
	for _, step := range []struct {
		do   func()
		want time.Time
	}{
		{func() { e.set(a, at(1)) }, at(1)},
		{func() { e.set(b, at(2)) }, at(1)},
		{func() { e.set(a, at(3)) }, at(2)}, // extended
		{func() { e.set(c, at(4)) }, at(2)},
		{func() { e.remove(b) }, at(3)},
		{func() { e.remove(b) }, at(3)},
		{func() { e.remove(a) }, at(4)},
		{func() { e.remove(c) }, time.Time{}},
	} {
		if step.do(); !ring.Equal(step.want) {
			t.Errorf("the alarm rings at %v, want %v", ring.Sub(start), step.want.Sub(start))
		}
	}
	if len(e.of) != 0 || e.due.Len() != 0 {
		t.Error("streams are left")
	}
	// Only those that are due end.
	var ended []*stream
	for i, s := range []*stream{a, b, c} {
		e.set(s, at(i))
	}
	e.run(at(1), func(s *stream) { ended = append(ended, s) })
	if len(ended) != 2 || ended[0] != a || ended[1] != b || !ring.Equal(at(2)) {
		t.Errorf("%d ended, the alarm rings at %v", len(ended), ring.Sub(start))
	}
}
