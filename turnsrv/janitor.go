package turnsrv

import (
	"net"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// janitorPeriod is how often the front looks for allocations whose time is over. They stop working on time in any case:
// fromClient looks at the clock itself.
const janitorPeriod = time.Second

// enter makes a known to everything that looks for it. If its client has a relayed address, a is the second one of a dual
// allocation. One that is ending is not the client's any more: the request that a is for may be what showed that its time
// is over.
func (f *front) enter(a *allocation, now time.Time) {
	a.hear(now)
	if first := f.allocations[a.client]; first != nil && !first.ending.Load() {
		first.dual, a.dual = a, first
		return
	}
	f.allocations[a.client] = a
	f.link.allocated(a.client, true)
	if f.alarm.IsZero() {
		f.setAlarm(now.Add(janitorPeriod))
	}
}

// end has pion end a. What follows is done when pion has: the answer, if any, goes to the client.
func (f *front) end(a *allocation, reason EndReason, answer func() []byte) {
	if !f.letGo(a) {
		return
	}
	f.order(order{method: stun.MethodRefresh, allocation: a, lifetime: 0, done: func(bool) []byte {
		f.ended(a, reason, time.Now())
		if answer == nil {
			return nil
		}
		return answer()
	}})
}

// letGo marks a as ending and reports whether it was not yet. The quota has room again from now on, not only when pion is done: a
// client may allocate again with the request that shows that the time of its allocation is over.
func (f *front) letGo(a *allocation) bool {
	if a.ending.Swap(true) {
		return false
	}
	f.server.quota.give(a)
	return true
}

// endAll has pion end the whole allocation that a is of.
func (f *front) endAll(a *allocation, reason EndReason) {
	for relay := range a.relays() {
		f.end(relay, reason, nil)
	}
}

// ended forgets a, which pion has let go of.
func (f *front) ended(a *allocation, reason EndReason, now time.Time) {
	_ = a.relay.Close() // pion has done so, unless it failed
	f.byHandle.Delete(&a.handle)
	other := a.dual
	if other != nil {
		other.dual = nil // a keeps its own: somebody may be on the way from one half to the other
	}
	switch {
	case f.allocations[a.client] != a:
	case other != nil:
		f.allocations[a.client] = other
	default:
		delete(f.allocations, a.client)
		f.link.allocated(a.client, false)
	}
	f.server.emit(Event{
		Kind: AllocationEnded, Time: now, Tuple: a.client.tuple, Username: a.username, Subject: a.subject, Relayed: a.relay.Relayed(),
		End: reason, ToPeer: a.toPeer.snapshot(), ToClient: a.toClient.snapshot(), Dropped: a.drops(),
	})
}

// onAlarm has the janitor come if it is time, and sets the next alarm: somebody may have woken the link for something
// else.
func (f *front) onAlarm(now time.Time) {
	if f.alarm.IsZero() || now.Before(f.alarm) {
		f.link.setAlarm(f.alarm)
		return
	}
	f.janitor(now)
	if len(f.allocations) == 0 {
		f.setAlarm(time.Time{})
	} else {
		f.setAlarm(now.Add(janitorPeriod))
	}
}

// janitor ends what has expired, keeps pion's timers from running off, and sees who relays.
func (f *front) janitor(now time.Time) {
	for _, one := range f.allocations {
		relayed := uint64(0)
		for a := range one.relays() {
			relayed += a.toPeer.packets.Load() + a.toClient.packets.Load()
			switch {
			case !now.Before(a.expires):
				f.end(a, EndedExpired, nil)
			case a.known && a.pionExpires.Sub(now) < pionRenewal:
				f.order(order{method: stun.MethodRefresh, allocation: a, lifetime: pionLifetime})
				a.pionExpires = now.Add(pionLifetime)
			}
		}
		if relayed != one.holder.relayed {
			one.holder.relayed = relayed
			one.active.Store(int64(now.Sub(f.server.start)))
		}
	}
}

func (f *front) setAlarm(t time.Time) {
	f.alarm = t
	f.link.setAlarm(t)
}

// notices are of allocations that others than the front have decided about. They come on goroutines that hold locks of pion, or
// are those of other fronts, so they are only put down here.
type notices struct {
	mu         sync.Mutex
	givenUp    []*net.UDPAddr // by pion, of its own accord
	superseded []*allocation  // by new ones of their users
}

func (n *notices) take() (givenUp []*net.UDPAddr, superseded []*allocation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	givenUp, superseded = n.givenUp, n.superseded
	n.givenUp, n.superseded = nil, nil
	return givenUp, superseded
}

// notify leaves a notice about an allocation that the front itself has not given up. It is called by pion.
func (f *front) notify(handle *net.UDPAddr) {
	if a := f.lookup(handle); a == nil || a.ending.Load() {
		return
	}
	f.notices.mu.Lock()
	f.notices.givenUp = append(f.notices.givenUp, handle)
	f.notices.mu.Unlock()
	f.link.wake()
}

// supersede ends a, an allocation of f, whose place another one has taken. It is for the goroutine of by, which may be another
// front.
func (f *front) supersede(a *allocation, by *front) {
	if f == by {
		f.endAll(a, EndedSuperseded)
		return
	}
	f.notices.mu.Lock()
	f.notices.superseded = append(f.notices.superseded, a)
	f.notices.mu.Unlock()
	f.link.wake()
}

// lookup returns the allocation that pion calls handle, or nil. Safe for concurrent use.
func (f *front) lookup(handle *net.UDPAddr) *allocation {
	a, _ := f.byHandle.Load(handle)
	found, _ := a.(*allocation)
	return found
}

// readNotices ends what pion has given up, and what was superseded.
func (f *front) readNotices() {
	givenUp, superseded := f.notices.take()
	for _, a := range superseded {
		if !a.ending.Load() { // else its other half may go on
			f.endAll(a, EndedSuperseded)
		}
	}
	for _, handle := range givenUp {
		if a := f.lookup(handle); a != nil && f.letGo(a) {
			f.ended(a, EndedPion, time.Now())
		}
	}
}
