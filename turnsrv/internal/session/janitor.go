package session

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
)

// JanitorPeriod is the interval at which a session removes expired relayed addresses. They stop working on time regardless,
// because fromClient checks the expiry itself.
const JanitorPeriod = time.Second

// Limits on what one run of the janitor ends, and the pause before the next run if more remain.
const (
	janitorLimit = 64
	janitorPause = 10 * time.Millisecond
)

// onAlarm runs the janitor if it is due and sets the next alarm. It may be called early, because the link may have been woken
// for another reason.
func (s *Session) onAlarm(now time.Time) {
	if s.alarm.IsZero() || now.Before(s.alarm) {
		s.link.SetAlarm(s.alarm)
		return
	}
	s.setAlarm(now.Add(JanitorPeriod)) // in case the janitor panics
	switch more := s.janitor(now); {
	case more:
		s.setAlarm(now.Add(janitorPause))
	case len(s.allocations) == 0:
		s.setAlarm(time.Time{})
	}
}

// janitor ends expired relayed addresses and records which allocations relay. It reports whether more remain to be ended: when
// many expire at once, other clients' packets must not wait for all of them.
func (s *Session) janitor(now time.Time) (more bool) {
	ended := 0
	for _, a := range s.allocations {
		a.sweepKernel(now)
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
		s.settleCalls(a, now)
		if s.settleRoaming(a, now); len(a.addresses) == 0 {
			continue
		}
		if s.shared.meterAddresses(a.addresses, now) {
			s.endAddresses(a.addresses, event.EndedByDailyBytes, now)
		}
		if s.expire(a, now); len(a.addresses) < before {
			if ended++; ended == janitorLimit {
				return true
			}
		}
	}
	return false
}

// setActive records whether an allocation relays, for the shares of all allocations.
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
