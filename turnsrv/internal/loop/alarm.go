package loop

import "time"

// Alarm calls a function of a loop at a set time. It is owned by the goroutine of the loop.
type Alarm struct {
	at time.Time // zero while it is not set
	f  func(now time.Time)
}

// Set makes the alarm due at t, or never if t is zero. It replaces an earlier time.
func (a *Alarm) Set(t time.Time) { a.at = t }

// alarms are the alarms of one loop. There are a few, one for each link.
type alarms []*Alarm

// next returns when the first alarm is due, or the zero time.
func (all alarms) next() (first time.Time) {
	for _, a := range all {
		if !a.at.IsZero() && (first.IsZero() || a.at.Before(first)) {
			first = a.at
		}
	}
	return first
}

// run calls the functions of the alarms that are due.
func (all alarms) run(now time.Time) {
	for _, a := range all {
		if !a.at.IsZero() && !now.Before(a.at) {
			a.at = time.Time{}
			a.f(now)
		}
	}
}
