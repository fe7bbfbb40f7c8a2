package turnsrv

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// EventKind tells events apart.
type EventKind uint8

// What happens to an allocation.
const (
	AllocationMade EventKind = iota
	AllocationRefused
	AllocationRefreshed
	AllocationEnded
)

// String returns a name fit for a log line.
func (k EventKind) String() string {
	switch k {
	case AllocationMade:
		return "allocation made"
	case AllocationRefused:
		return "allocation refused"
	case AllocationRefreshed:
		return "allocation refreshed"
	case AllocationEnded:
		return "allocation ended"
	}
	return "event"
}

// Event is something that happened to an allocation.
type Event struct {
	Kind     EventKind
	Time     time.Time
	Tuple    FiveTuple
	Username string
	Relayed  netip.AddrPort // zero for AllocationRefused

	Lifetime time.Duration  // AllocationMade, AllocationRefreshed
	Code     stun.ErrorCode // AllocationRefused
	Reason   string         // AllocationRefused, AllocationEnded: why, from a closed set
	ToPeer   Traffic        // AllocationEnded
	ToClient Traffic        // AllocationEnded
}

// LogValue is for lines at debug: it holds the client's address and user name.
func (e Event) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("client", e.Tuple.Client.String()),
		slog.String("transport", e.Tuple.Transport.String()),
		slog.String("username", e.Username),
	}
	if e.Relayed.IsValid() {
		attrs = append(attrs, slog.String("relay", e.Relayed.String()))
	}
	switch e.Kind {
	case AllocationMade, AllocationRefreshed:
		attrs = append(attrs, slog.Duration("lifetime", e.Lifetime))
	case AllocationRefused:
		attrs = append(attrs, slog.Int("code", int(e.Code)), slog.String("reason", e.Reason))
	case AllocationEnded:
		attrs = append(attrs, slog.String("reason", e.Reason),
			slog.Uint64("to_peer_bytes", e.ToPeer.Bytes), slog.Uint64("to_peer_packets", e.ToPeer.Packets),
			slog.Uint64("to_client_bytes", e.ToClient.Bytes), slog.Uint64("to_client_packets", e.ToClient.Packets))
	}
	return slog.GroupValue(attrs...)
}
