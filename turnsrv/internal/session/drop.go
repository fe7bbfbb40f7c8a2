package session

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
)

// dropReason returns why a link did not send.
func dropReason(err error) event.DropReason {
	if err == ErrQueue {
		return event.DropQueue
	}
	return event.DropSend
}

// drop counts a message of a client that has no allocation, or is none, and an answer that does not leave. At debug it shows one a minute of each kind.
func (s *Session) drop(reason event.DropReason, from Client, now time.Time) {
	s.shared.Counters.Drop(reason)
	if !s.shared.config.Logger.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	if skipped, due := s.shared.samples.Next(reason.String(), now); due {
		s.shared.config.Logger.Debug("message dropped", "reason", reason.String(), "client", from.Tuple.Client.String(),
			"transport", from.Tuple.Transport.String(), "skipped", skipped)
	}
}

// drop counts a packet between the client and peer, whose address may be unknown. At debug it shows the first one of each
// reason, and the end of the allocation tells how many there were: who asks why nothing arrives finds it beside the call, and
// the log does not grow with the packets. cause, if it is not nil, is an error, or the rule that refuses peer.
func (r *relayedAddress) drop(reason event.DropReason, peer netip.AddrPort, cause any) {
	a := r.allocation
	s := a.session.shared
	s.Counters.Drop(reason)
	if r.dropped[reason].Add(1) > 1 {
		return
	}
	attrs := []any{"reason", reason.String(), "client", a.client.Tuple.Client.String(), "username", a.username, "relay", r.conn.Relayed().String()}
	if peer.IsValid() {
		attrs = append(attrs, "peer", peer.String())
	}
	if cause != nil {
		attrs = append(attrs, "err", cause)
	}
	s.config.Logger.Debug("packet dropped", attrs...)
}

// drops returns how many packets were dropped for each reason that there was, or nil if there was none.
func (r *relayedAddress) drops() map[event.DropReason]uint32 {
	var drops map[event.DropReason]uint32
	for reason := range r.dropped {
		if n := r.dropped[reason].Load(); n > 0 {
			if drops == nil {
				drops = make(map[event.DropReason]uint32)
			}
			drops[event.DropReason(reason)] = n
		}
	}
	return drops
}
