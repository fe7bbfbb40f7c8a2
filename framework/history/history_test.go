package history

import (
	"math"
	"testing"
	"time"
)

var begin = time.Unix(1758650700, 0) // a multiple of five minutes

// TestDay fills a history for more than a day: the newest hour and the newest day remain.
func TestDay(t *testing.T) {
	h := New(2)
	now := begin
	for i := range 30 * hourSteps {
		now = begin.Add(time.Duration(i) * Step)
		h.Add(now, []float64{float64(i), Missing})
	}
	hour := h.Hour(now)
	if len(hour.Times) != hourSteps || !hour.Times[hourSteps-1].Equal(now) {
		t.Errorf("the hour has %d points, the last one at %v", len(hour.Times), hour.Times[len(hour.Times)-1])
	}
	if got, want := hour.Values[0][0], float64(29*hourSteps); got != want {
		t.Errorf("the hour begins with %v, want %v", got, want)
	}
	if !math.IsNaN(hour.Values[1][0]) {
		t.Errorf("a missing value is %v", hour.Values[1][0])
	}
	day := h.Day(now)
	// The oldest point began before the day did.
	if len(day.Times) != daySteps-1 || !day.Times[len(day.Times)-1].Equal(now.Truncate(dayStep).Add(-dayStep)) {
		t.Errorf("the day has %d points, the last one at %v", len(day.Times), day.Times[len(day.Times)-1])
	}
	for i, at := range day.Times {
		first := at.Sub(begin).Seconds() / Step.Seconds()
		if want := first + 14.5; day.Values[0][i] != want {
			t.Fatalf("the mean at %v is %v, want %v", at, day.Values[0][i], want)
		}
		if !math.IsNaN(day.Values[1][i]) {
			t.Fatalf("a mean of missing values is %v", day.Values[1][i])
		}
	}
}

// TestOldPoints checks that points which nothing has overwritten are not taken for recent ones.
func TestOldPoints(t *testing.T) {
	h := New(1)
	h.Add(begin, []float64{1})
	if got := len(h.Hour(begin.Add(time.Hour)).Times); got != 1 {
		t.Errorf("after an hour there are %d points, want 1", got)
	}
	if got := len(h.Hour(begin.Add(time.Hour + time.Second)).Times); got != 0 {
		t.Errorf("later there are %d points, want none", got)
	}
}

// TestClockSetBack checks that times never go back: plots need that.
func TestClockSetBack(t *testing.T) {
	h := New(1)
	h.Add(begin, []float64{1})
	h.Add(begin.Add(-time.Minute), []float64{2})
	h.Add(begin.Add(Step), []float64{3})
	p := h.Hour(begin.Add(Step))
	if len(p.Times) != 2 || p.Values[0][1] != 3 {
		t.Errorf("got %v", p)
	}
}
