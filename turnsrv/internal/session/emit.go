package session

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// emit counts an event and tells of it.
func (s *Shared) emit(e event.Event) {
	switch c := s.Counters; e.Kind {
	case event.AllocationMade:
		c.Made.Add(1)
		c.Live[e.Tuple.Transport].Add(1)
	case event.AllocationRefused:
		c.Refused[e.Refusal].Add(1)
	case event.AllocationRefreshed:
		c.Refreshed.Add(1)
	case event.AllocationEnded:
		c.Ended[e.End].Add(1)
		c.Live[e.Tuple.Transport].Add(-1)
	}
	s.config.Logger.Debug(e.Kind.String(), "allocation", e)
	if s.config.OnEvent != nil {
		s.config.OnEvent(e)
	}
}

// emitRefused tells of an Allocate request that was refused, or of the half of a dual allocation that was.
func (s *Session) emitRefused(o *origin, code stun.ErrorCode, reason event.RefusalReason, now time.Time) {
	s.shared.emit(event.Event{
		Kind: event.AllocationRefused, Time: now, Tuple: o.client.Tuple, Username: o.username, Subject: o.subject,
		Code: code, Refusal: reason,
	})
}
