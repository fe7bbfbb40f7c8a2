package session

import (
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
)

// current returns the client's allocation, or nil if it has none or it has expired.
func (s *Session) current(from Client, now time.Time) *allocation {
	a := s.allocations.get(from)
	if a == nil {
		return nil
	}
	s.expire(a, now)
	if len(a.addresses) == 0 {
		return nil
	}
	return a
}

// expire ends the relayed addresses of a that have expired.
func (s *Session) expire(a *allocation, now time.Time) {
	at := now.Sub(s.shared.start)
	for _, address := range a.addresses {
		if at >= address.expires {
			s.endAddresses([]*relayedAddress{address}, event.EndedExpired, now)
		}
	}
}

// endAddresses ends relayed addresses of one allocation. It ends the allocation along with the last of them.
func (s *Session) endAddresses(addresses []*relayedAddress, reason event.EndReason, now time.Time) {
	for _, address := range addresses { // not a.addresses, which is replaced and not modified
		a := address.allocation
		s.shared.quota.give(address)
		a.peers.forget(address.family, now)                      // before the port can belong to another allocation: the kernel may relay from it
		s.shared.meterAddresses([]*relayedAddress{address}, now) // after the kernel has reported its last counts
		address.conn.Close()
		a.addresses = slices.DeleteFunc(slices.Clone(a.addresses), func(other *relayedAddress) bool { return other == address })
		s.count(a)
		if len(a.addresses) == 0 {
			s.allocations.remove(a)
			s.expiries.remove(a)
			s.calm(a)
			if s.allocations.len() == 0 {
				s.shared.occupied.set(s, false)
			}
			s.setActive(a, false)
			s.link.Allocated(a.client, false)
		}
		s.shared.emit(event.Event{
			Kind: event.AllocationEnded, Time: now, Tuple: a.client.Tuple, Username: a.username, Subject: a.subject,
			Relayed: address.conn.Relayed(), End: reason, Made: time.Unix(0, a.since),
			ToPeer: address.toPeer.Snapshot(), ToClient: address.toClient.Snapshot(), Dropped: address.drops(),
		})
	}
}

// endFor ends a, an allocation of s that has lost its place in the quota. It runs on the goroutine of by, which may be another
// session.
func (s *Session) endFor(a *allocation, by *Session, reason event.EndReason, now time.Time) {
	if s == by {
		s.endAddresses(a.addresses, reason, now)
		return
	}
	s.asked.add(func(now time.Time) { s.endAddresses(a.addresses, reason, now) })
	s.link.Wake()
}
