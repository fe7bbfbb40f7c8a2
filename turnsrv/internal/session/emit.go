package session

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// emit counts an event, logs it and passes it to Config.OnEvent.
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

// emitRefused reports an Allocate request that was refused, or the refused half of a dual allocation.
func (s *Session) emitRefused(o *origin, code stun.ErrorCode, reason event.RefusalReason, now time.Time) {
	s.shared.emit(event.Event{
		Kind: event.AllocationRefused, Time: now, Tuple: o.client.Tuple, Username: o.username, Subject: o.subject,
		Code: code, Refusal: reason,
	})
}
