package turnsrv

import (
	"slices"
	"sync"
	"time"
)

// janitorPeriod is how often the front looks for relayed addresses whose time is over. They stop working on time in any case:
// fromClient looks at the clock itself.
const janitorPeriod = time.Second

// What the janitor ends at a time, and how long it pauses when there is more.
const (
	janitorLimit = 64
	janitorPause = 10 * time.Millisecond
)

// current returns the client's allocation, or nil if it has none whose time is not over.
func (f *front) current(from client, now time.Time) *allocation {
	a := f.allocations[from]
	if a == nil {
		return nil
	}
	f.expire(a, now)
	if len(a.addresses) == 0 {
		return nil
	}
	return a
}

// expire ends the relayed addresses of a whose time is over.
func (f *front) expire(a *allocation, now time.Time) {
	for _, address := range a.addresses {
		if !now.Before(address.expires) {
			f.endAddresses([]*relayedAddress{address}, EndedExpired, now)
		}
	}
}

// endAddresses ends relayed addresses of one allocation, and the allocation with the last of them.
func (f *front) endAddresses(addresses []*relayedAddress, reason EndReason, now time.Time) {
	for _, address := range slices.Clone(addresses) {
		a := address.allocation
		address.ended = true
		f.shared.quota.give(address)
		address.conn.Close()
		a.addresses = slices.DeleteFunc(slices.Clone(a.addresses), func(other *relayedAddress) bool { return other == address })
		a.peers.forget(address.family)
		f.count(a)
		if len(a.addresses) == 0 {
			delete(f.allocations, a.client)
			f.setActive(a, false)
			f.link.allocated(a.client, false)
		}
		f.shared.emit(Event{
			Kind: AllocationEnded, Time: now, Tuple: a.client.tuple, Username: a.username, Subject: a.subject,
			Relayed: address.conn.Relayed(), End: reason,
			ToPeer: address.toPeer.snapshot(), ToClient: address.toClient.snapshot(), Dropped: address.drops(),
		})
	}
}

// onAlarm has the janitor come if it is time, and sets the next alarm: the link may have been woken for something else.
func (f *front) onAlarm(now time.Time) {
	if f.alarm.IsZero() || now.Before(f.alarm) {
		f.link.setAlarm(f.alarm)
		return
	}
	switch more := f.janitor(now); {
	case more:
		f.setAlarm(now.Add(janitorPause))
	case len(f.allocations) == 0:
		f.setAlarm(time.Time{})
	default:
		f.setAlarm(now.Add(janitorPeriod))
	}
}

// janitor ends what has expired, and notes who relays. It reports whether there is more to end: many that expire together must not
// keep the packets of others waiting.
func (f *front) janitor(now time.Time) (more bool) {
	ended := 0
	for _, a := range f.allocations {
		relayed := uint64(0)
		for _, address := range a.addresses {
			relayed += address.toPeer.packets.Load() + address.toClient.packets.Load()
		}
		f.setActive(a, relayed != a.relayed)
		if relayed != a.relayed {
			a.relayed = relayed
			a.active.Store(int64(now.Sub(f.shared.start)))
		}
		before := len(a.addresses)
		if f.expire(a, now); len(a.addresses) < before {
			if ended++; ended == janitorLimit {
				return true
			}
		}
	}
	return false
}

// setActive has the server know whether an allocation relays.
func (f *front) setActive(a *allocation, active bool) {
	switch {
	case active && !a.counted:
		f.shared.active.Add(1)
	case !active && a.counted:
		f.shared.active.Add(-1)
	}
	a.counted = active
}

func (f *front) setAlarm(t time.Time) {
	f.alarm = t
	f.link.setAlarm(t)
}

// superseded are allocations whose place others have taken, on the goroutines of other fronts. Safe for concurrent use.
type superseded struct {
	mu          sync.Mutex
	allocations []*allocation
}

func (s *superseded) add(a *allocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allocations = append(s.allocations, a)
}

func (s *superseded) take() []*allocation {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.allocations
	s.allocations = nil
	return taken
}

// supersede ends a, an allocation of f, whose place another one has taken. It is for the goroutine of by, which may be another
// front.
func (f *front) supersede(a *allocation, by *front, now time.Time) {
	if f == by {
		f.endAddresses(a.addresses, EndedSuperseded, now)
		return
	}
	f.superseded.add(a)
	f.link.wake()
}

// endSuperseded ends the allocations whose place was taken from other fronts.
func (f *front) endSuperseded(now time.Time) {
	for _, a := range f.superseded.take() {
		f.endAddresses(a.addresses, EndedSuperseded, now)
	}
}
