package cluster

import (
	"slices"
	"time"
)

// A Part is something that machines share through Redis, in words for operators.
type Part string

// The parts.
const (
	Announcements Part = "announcements" // of relays
	BansAndNames  Part = "bans and names"
	SharedLimits  Part = "limits"
)

// An Outage is that a part is not shared.
type Outage struct {
	Part  Part
	Since time.Time
	Err   error // of the last attempt
}

// Status is how a process gets on with Redis.
type Status struct {
	Answered time.Time // when announcements last succeeded; zero if never
	Err      error     // of the last attempt to announce, nil if that has succeeded
	Failures uint64    // attempts to announce that have failed
	// Outages are the parts that are not shared now, the longest first. Err is that of Announcements.
	Outages []Outage
}

// Status returns how the process gets on with Redis. d must not be nil.
func (d *Directory) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Status{d.read, d.err, d.failures, slices.Clone(d.outages)}
}

// report says that a part is not shared because of err, or is if that is nil. It reports whether that is news.
func (d *Directory) report(part Part, err error) (news bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.outages, func(o Outage) bool { return o.Part == part })
	switch {
	case err != nil && i >= 0:
		d.outages[i].Err = err
		return false
	case err != nil:
		d.outages = append(d.outages, Outage{part, time.Now(), err})
	case i >= 0:
		d.outages = slices.Delete(d.outages, i, i+1)
	}
	return err != nil || i >= 0
}
