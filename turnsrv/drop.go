package turnsrv

import (
	"context"
	"log/slog"
	"net/netip"
	"time"
)

// DropReason says why a packet went nowhere.
type DropReason uint8

// Reasons, in the order of a packet's way.
const (
	DropMalformed        DropReason = iota // neither STUN nor ChannelData, or with a length or FINGERPRINT that is wrong
	DropUnexpected                         // a method or class that a TURN server does not take
	DropUnauthenticated                    // a request without credentials, beyond the rate of its network
	DropGuess                              // a request with wrong credentials, after too many from its address
	DropRequestRate                        // a request for an allocation that has had too many of late
	DropNoAllocation                       // data from a client that has none
	DropNoChannel                          // data from a client on a channel that is not bound
	DropNoPermission                       // data from a client to a peer without a permission
	DropPeerNoPermission                   // data from a peer that has none
	DropSilentPeer                         // data to a peer that never answers, beyond what such a one gets
	DropBandwidth                          // data beyond what an allocation, its user, or all of them may relay
	DropRefusedPeer                        // data to a peer that the policy refuses
	DropOversize                           // does not fit: from a peer a Data indication, from a DTLS client the buffer
	DropQueue                              // data for a stream client that does not read
	DropSend                               // the socket did not take it
	DropDTLS                               // belongs to no DTLS association, or none would send it, or there are too many of them
	numDropReasons
)

// String returns the reason as a metric's label.
func (r DropReason) String() string {
	return [...]string{
		"malformed", "unexpected", "unauthenticated", "guess", "request_rate", "no_allocation", "no_channel", "no_permission", "peer_no_permission",
		"silent_peer", "bandwidth", "refused_peer", "oversize", "queue", "send", "dtls",
	}[r]
}

// dropReason returns why a link did not send.
func dropReason(err error) DropReason {
	if err == errQueue {
		return DropQueue
	}
	return DropSend
}

// drop counts a message of a client that has no allocation, or is none, and an answer that does not leave. At debug it shows one a minute of each kind.
func (f *front) drop(reason DropReason, from client, now time.Time) {
	s := f.shared
	s.counters.drop(reason)
	if !s.config.Logger.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	if skipped, due := s.samples.Next(reason.String(), now); due {
		s.config.Logger.Debug("message dropped", "reason", reason.String(), "client", from.tuple.Client.String(),
			"transport", from.tuple.Transport.String(), "skipped", skipped)
	}
}

// drop counts a packet between the client and peer, whose address may be unknown. At debug it shows the first one of each
// reason, and the end of the allocation tells how many there were: who asks why nothing arrives finds it beside the call, and
// the log does not grow with the packets. cause, if it is not nil, is an error, or the rule that refuses peer.
func (r *relayedAddress) drop(reason DropReason, peer netip.AddrPort, cause any) {
	a := r.allocation
	s := a.front.shared
	s.counters.drop(reason)
	if r.dropped[reason].Add(1) > 1 {
		return
	}
	attrs := []any{"reason", reason.String(), "client", a.client.tuple.Client.String(), "username", a.username, "relay", r.conn.Relayed().String()}
	if peer.IsValid() {
		attrs = append(attrs, "peer", peer.String())
	}
	if cause != nil {
		attrs = append(attrs, "err", cause)
	}
	s.config.Logger.Debug("packet dropped", attrs...)
}

// drops returns how many packets were dropped for each reason that there was, or nil if there was none.
func (r *relayedAddress) drops() map[DropReason]uint32 {
	var drops map[DropReason]uint32
	for reason := range r.dropped {
		if n := r.dropped[reason].Load(); n > 0 {
			if drops == nil {
				drops = make(map[DropReason]uint32)
			}
			drops[DropReason(reason)] = n
		}
	}
	return drops
}
