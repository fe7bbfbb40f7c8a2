package usage

import (
	"sync"
	"time"
)

const (
	// MaxUsers is how many users a Day counts. Each takes about 200 bytes.
	MaxUsers = 1 << 16
	// samples is how many users are compared to find one that can be forgotten.
	samples = 16
)

// Day is a Meter in memory. Its days are those of UTC, so that servers in different places have the same. When there are too many
// users, it forgets one that has relayed little, so that somebody with many credentials cannot make it forget whoever is near a limit.
// The zero value is ready for use. Safe for concurrent use.
type Day struct {
	// Ended, if not nil, is called when the first traffic of another day arrives, with the day that has ended and what was relayed
	// in it. It must not block. It is set before the first Add.
	Ended func(day time.Time, totals map[User]Total)

	mu    sync.Mutex // guards what follows
	start time.Time  // of the day
	users map[User]Total
}

// StartOf returns the start of the day that t is in.
func StartOf(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// Add implements Meter.
func (d *Day) Add(user User, relayed Total, now time.Time) (today uint64) {
	d.mu.Lock()
	ended, totals := d.turn(now)
	sum := d.users[user].Plus(relayed)
	d.put(user, sum)
	d.mu.Unlock()
	if len(totals) > 0 && d.Ended != nil {
		d.Ended(ended, totals)
	}
	return sum.Bytes()
}

// Today implements Meter.
func (d *Day) Today(user User, now time.Time) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if StartOf(now).After(d.start) {
		return 0
	}
	return d.users[user].Bytes()
}

// Totals returns a copy of what was relayed in the day, which is that of the last Add.
func (d *Day) Totals() (day time.Time, totals map[User]Total) {
	d.mu.Lock()
	defer d.mu.Unlock()
	totals = make(map[User]Total, len(d.users))
	for user, total := range d.users {
		totals[user] = total
	}
	return d.start, totals
}

// Clear forgets everything.
func (d *Day) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users = nil
}

// turn begins another day if now is in one, and returns the one that has ended. If the clock was set back, the later day goes on. The
// caller holds the lock.
func (d *Day) turn(now time.Time) (ended time.Time, totals map[User]Total) {
	if start := StartOf(now); start.After(d.start) {
		ended, totals = d.start, d.users
		d.start, d.users = start, nil
	}
	if d.users == nil {
		d.users = make(map[User]Total)
	}
	return ended, totals
}

// put stores the total of a user, which replaces another one if there are too many. The caller holds the lock.
func (d *Day) put(user User, total Total) {
	if _, known := d.users[user]; !known && len(d.users) >= MaxUsers {
		var least User
		seen := 0
		for other := range d.users { // begins at a random place
			if seen == 0 || d.users[other].Bytes() < d.users[least].Bytes() {
				least = other
			}
			if seen++; seen == samples {
				break
			}
		}
		delete(d.users, least)
	}
	d.users[user] = total
}
