package session

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
)

// JanitorPeriod is the interval at which a session removes expired relayed addresses. They stop working on time regardless,
// because fromClient checks the expiry itself.
const JanitorPeriod = time.Second

// Limits on what one run of the janitor does, and the pause before the next run if more remains: when many addresses expire at once, the
// packets of other clients must not wait for all of them.
const (
	janitorLimit = 64   // allocations of which an address expires
	refreshLimit = 1024 // allocations that would have expired, had they not been refreshed
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
	case s.allocations.len() == 0:
		s.setAlarm(time.Time{})
	}
}

// janitor looks after the restless allocations, and ends expired relayed addresses. It reports whether more remain to be ended.
func (s *Session) janitor(now time.Time) (more bool) {
	for i := len(s.restless) - 1; i >= 0; i-- { // backwards, because the last one takes the place of one that leaves
		if i < len(s.restless) {
			if a := s.restless[i]; !s.lookAfter(a, now) {
				s.calm(a)
			}
		}
	}
	at := now.Sub(s.shared.start)
	for range janitorLimit {
		a, more := s.expiries.due(at, refreshLimit)
		if a == nil {
			return more
		}
		s.expire(a, now)
	}
	return true
}

// stir makes the janitor look after an allocation that exchanges data, until it is quiet again.
func (s *Session) stir(a *allocation) {
	if a.restless == 0 {
		s.restless = append(s.restless, a)
		a.restless = len(s.restless)
	}
}

// calm undoes stir.
func (s *Session) calm(a *allocation) {
	if a.restless == 0 {
		return
	}
	last := len(s.restless) - 1
	moved := s.restless[last]
	s.restless[a.restless-1], moved.restless = moved, a.restless
	s.restless[last] = nil
	s.restless, a.restless = s.restless[:last], 0
}

// lookAfter records whether an allocation relays, and settles what depends on that. It reports whether the next run of the janitor must do
// this again.
func (s *Session) lookAfter(a *allocation, now time.Time) (again bool) {
	defer s.endOnPanic(a.client, now)
	a.sweepKernel(now)
	relayed := uint64(0)
	for _, address := range a.addresses {
		relayed += address.toPeer.Packets.Load() + address.toClient.Packets.Load()
	}
	active := relayed != a.relayed
	s.setActive(a, active)
	if active {
		a.relayed = relayed
		a.active.Store(int64(now.Sub(s.shared.start)))
	}
	s.settleCalls(a, now)
	if s.settleRoaming(a, now); len(a.addresses) == 0 {
		return false
	}
	if s.shared.meterAddresses(a.addresses, now) {
		s.endAddresses(a.addresses, event.EndedByDailyBytes, now)
		return false
	}
	return active || a.unsettled()
}

// unsettled reports whether a needs the janitor although it has relayed nothing: it is in a call, the kernel relays for it, or its user
// has more than the quota allows for a while. Packets from peers that arrive on other goroutines cannot stir it.
func (a *allocation) unsettled() bool {
	h := a.account
	if a.session.apart || a.call.state.Load() == inCall || h.roaming.graceEnds.Load() != 0 || h.moving.graceEnds.Load() != 0 ||
		h.review.Load() != 0 {
		return true
	}
	for _, c := range a.peers.channels.all() {
		if c.offloaded != nil {
			return true
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
