// Package history keeps the recent values of a few series in memory: those of the last hour in steps of 10 seconds, and those of the
// last day in steps of 5 minutes.
package history

import (
	"math"
	"sync"
	"time"
)

// Steps, and how many there are of each.
const (
	Step      = 10 * time.Second
	hourSteps = int(time.Hour / Step)
	dayStep   = 5 * time.Minute
	daySteps  = int(24 * time.Hour / dayStep)
)

// Missing stands for a value that there is none of.
var Missing = math.NaN()

// A History has the same number of series from its beginning on, in memory of fixed size. It is safe for concurrent use.
type History struct {
	mu        sync.Mutex
	hour, day ring
	// sums and counts are of the values since begun, for the mean that goes into day.
	sums   []float64
	counts []int
	begun  time.Time
}

// New returns a history of so many series, without any values.
func New(series int) *History {
	return &History{
		hour: newRing(series, hourSteps), day: newRing(series, daySteps),
		sums: make([]float64, series), counts: make([]int, series),
	}
}

// Add adds a value of each series; of those that have none, Missing. It is called every Step.
func (h *History) Add(now time.Time, values []float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hour.add(now, values)
	step := now.Truncate(dayStep)
	if h.begun.IsZero() {
		h.begun = step
	}
	if !step.Equal(h.begun) {
		means := make([]float64, len(h.sums))
		for i := range means {
			means[i] = Missing
			if h.counts[i] > 0 {
				means[i] = h.sums[i] / float64(h.counts[i])
			}
		}
		h.day.add(h.begun, means)
		clear(h.sums)
		clear(h.counts)
		h.begun = step
	}
	for i, v := range values {
		if !math.IsNaN(v) {
			h.sums[i] += v
			h.counts[i]++
		}
	}
}

// Points are the values of all series by time, the oldest first.
type Points struct {
	Times  []time.Time
	Values [][]float64 // of each series, as many as there are times
}

// Hour returns the values of the hour before now.
func (h *History) Hour(now time.Time) Points {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hour.since(now.Add(-time.Hour))
}

// Day returns the means over 5 minutes each of the day before now, without the present 5 minutes. A time is that of the beginning.
func (h *History) Day(now time.Time) Points {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.day.since(now.Add(-24 * time.Hour))
}

// ring overwrites the oldest point with the next one.
type ring struct {
	times  []time.Time // the zero Time where there is no point yet
	values [][]float64
	next   int
}

func newRing(series, steps int) ring {
	r := ring{times: make([]time.Time, steps), values: make([][]float64, series)}
	for i := range r.values {
		r.values[i] = make([]float64, steps)
	}
	return r
}

func (r *ring) add(at time.Time, values []float64) {
	r.times[r.next] = at
	for i, v := range values {
		r.values[i][r.next] = v
	}
	r.next = (r.next + 1) % len(r.times)
}

// since returns a copy of the points from a time on. Points before it stay when nothing was added for a while, and those after a
// clock was set back may be out of order: they are left out too.
func (r *ring) since(from time.Time) Points {
	p := Points{Times: []time.Time{}, Values: make([][]float64, len(r.values))}
	for i := range p.Values {
		p.Values[i] = []float64{}
	}
	for i := range r.times {
		at := (r.next + i) % len(r.times)
		t := r.times[at]
		if t.IsZero() || t.Before(from) || len(p.Times) > 0 && !t.After(p.Times[len(p.Times)-1]) {
			continue
		}
		p.Times = append(p.Times, t)
		for s := range r.values {
			p.Values[s] = append(p.Values[s], r.values[s][at])
		}
	}
	return p
}
