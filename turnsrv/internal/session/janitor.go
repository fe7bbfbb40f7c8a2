package session

import (
	"slices"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
)

// JanitorPeriod is how often the session looks for relayed addresses whose time is over. They stop working on time in any case:
// fromClient looks at the clock itself.
const JanitorPeriod = time.Second

// What the janitor ends at a time, and how long it pauses when there is more.
const (
	janitorLimit = 64
	janitorPause = 10 * time.Millisecond
)

// current returns the client's allocation, or nil if it has none whose time is not over.
func (s *Session) current(from Client, now time.Time) *allocation {
	a := s.allocations[from]
	if a == nil {
		return nil
	}
	s.expire(a, now)
	if len(a.addresses) == 0 {
		return nil
	}
	return a
}

// expire ends the relayed addresses of a whose time is over.
func (s *Session) expire(a *allocation, now time.Time) {
	for _, address := range a.addresses {
		if !now.Before(address.expires) {
			s.endAddresses([]*relayedAddress{address}, event.EndedExpired, now)
		}
	}
}

// endAddresses ends relayed addresses of one allocation, and the allocation with the last of them.
func (s *Session) endAddresses(addresses []*relayedAddress, reason event.EndReason, now time.Time) {
	for _, address := range slices.Clone(addresses) {
		a := address.allocation
		address.ended = true
		s.shared.quota.give(address)
		address.conn.Close()
		a.addresses = slices.DeleteFunc(slices.Clone(a.addresses), func(other *relayedAddress) bool { return other == address })
		a.peers.forget(address.family)
		s.count(a)
		if len(a.addresses) == 0 {
			delete(s.allocations, a.client)
			s.setActive(a, false)
			s.link.Allocated(a.client, false)
		}
		s.shared.emit(event.Event{
			Kind: event.AllocationEnded, Time: now, Tuple: a.client.Tuple, Username: a.username, Subject: a.subject,
			Relayed: address.conn.Relayed(), End: reason,
			ToPeer: address.toPeer.Snapshot(), ToClient: address.toClient.Snapshot(), Dropped: address.drops(),
		})
	}
}

// onAlarm has the janitor come if it is time, and sets the next alarm: the link may have been woken for something else.
func (s *Session) onAlarm(now time.Time) {
	if s.alarm.IsZero() || now.Before(s.alarm) {
		s.link.SetAlarm(s.alarm)
		return
	}
	switch more := s.janitor(now); {
	case more:
		s.setAlarm(now.Add(janitorPause))
	case len(s.allocations) == 0:
		s.setAlarm(time.Time{})
	default:
		s.setAlarm(now.Add(JanitorPeriod))
	}
}

// janitor ends what has expired, and notes who relays. It reports whether there is more to end: many that expire together must not
// keep the packets of others waiting.
func (s *Session) janitor(now time.Time) (more bool) {
	ended := 0
	for _, a := range s.allocations {
		relayed := uint64(0)
		for _, address := range a.addresses {
			relayed += address.toPeer.Packets.Load() + address.toClient.Packets.Load()
		}
		s.setActive(a, relayed != a.relayed)
		if relayed != a.relayed {
			a.relayed = relayed
			a.active.Store(int64(now.Sub(s.shared.start)))
		}
		before := len(a.addresses)
		if s.expire(a, now); len(a.addresses) < before {
			if ended++; ended == janitorLimit {
				return true
			}
		}
	}
	return false
}

// setActive has the server know whether an allocation relays.
func (s *Session) setActive(a *allocation, active bool) {
	switch {
	case active && !a.counted:
		s.shared.active.Add(1)
	case !active && a.counted:
		s.shared.active.Add(-1)
	}
	a.counted = active
}

func (s *Session) setAlarm(t time.Time) {
	s.alarm = t
	s.link.SetAlarm(t)
}

// superseded are allocations whose place others have taken, on the goroutines of other sessions. Safe for concurrent use.
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
// session.
func (s *Session) supersede(a *allocation, by *Session, now time.Time) {
	if s == by {
		s.endAddresses(a.addresses, event.EndedSuperseded, now)
		return
	}
	s.superseded.add(a)
	s.link.Wake()
}

// endSuperseded ends the allocations whose place was taken from other sessions.
func (s *Session) endSuperseded(now time.Time) {
	for _, a := range s.superseded.take() {
		s.endAddresses(a.addresses, event.EndedSuperseded, now)
	}
}
