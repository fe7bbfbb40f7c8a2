package session

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
)

// dropReason returns the reason for an error that a link passes to a Sender.
func dropReason(err error) event.DropReason {
	if err == ErrQueue {
		return event.DropQueue
	}
	return event.DropSend
}

// drop counts a dropped message of a client without an allocation, or a response that was not sent, for which from is zero. At
// debug level, it logs one message per minute for each reason.
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

// drop counts a dropped packet between the client and peer, which may be the zero value if the peer is unknown. At debug level
// it logs the first packet for each reason. The totals are logged when the allocation ends, so the log does not grow with the
// number of packets. cause is nil, an error, or the rule that refuses peer.
func (r *relayedAddress) drop(reason event.DropReason, peer netip.AddrPort, cause any) {
	a := r.allocation
	s := a.session.shared
	s.Counters.Drop(reason)
	if r.dropsBegun()[reason].Add(1) > 1 {
		return
	}
	attrs := []any{
		"reason", reason.String(), "client", a.client.Tuple.Client.String(), "username", a.username, "relay", r.conn.Relayed().String(),
	}
	if peer.IsValid() {
		attrs = append(attrs, "peer", peer.String())
	}
	if cause != nil {
		attrs = append(attrs, "err", cause)
	}
	s.config.Logger.Debug("packet dropped", attrs...)
}

// drops are the numbers of dropped packets. Safe for concurrent use.
type drops [event.NumDropReasons]atomic.Uint32

// dropsBegun returns the drops of r, and begins to count them if none have been counted.
func (r *relayedAddress) dropsBegun() *drops {
	if known := r.dropped.Load(); known != nil {
		return known
	}
	r.dropped.CompareAndSwap(nil, new(drops))
	return r.dropped.Load()
}

// drops returns the number of dropped packets by reason, or nil if none were dropped.
func (r *relayedAddress) drops() map[event.DropReason]uint32 {
	dropped := r.dropped.Load()
	if dropped == nil {
		return nil
	}
	counts := make(map[event.DropReason]uint32)
	for reason := range dropped {
		if n := dropped[reason].Load(); n > 0 {
			counts[event.DropReason(reason)] = n
		}
	}
	return counts
}
