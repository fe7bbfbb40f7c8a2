package event

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// EventKind is the kind of an event.
type EventKind uint8

// Kinds of events. Each relayed transport address of a dual allocation has its own events.
const (
	AllocationMade EventKind = iota
	AllocationRefused
	AllocationRefreshed
	AllocationEnded
)

// String returns the kind as a log message.
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

// RefusalReason is the reason why an Allocate request with credentials was refused.
type RefusalReason uint8

// Reasons, in the order in which they are checked.
const (
	RefusedCredentials RefusalReason = iota // 401: unknown user, wrong password or realm
	RefusedExpired                          // 401: the credential has expired
	RefusedFarExpiry                        // 401: the credential expires too far in the future
	RefusedTupleInUse                       // 437: the 5-tuple has an allocation
	RefusedBanned                           // 403: Config.Bans forbids it
	RefusedTransport                        // 400 and 442: REQUESTED-TRANSPORT is missing or not UDP
	RefusedAttributes                       // 400 and 420: malformed, contradictory or unknown attributes
	RefusedFamily                           // 440: the relay has no address of the family
	RefusedDraining                         // 300 and 508: Shutdown or SetDraining was called
	RefusedTotalQuota                       // 486
	RefusedSourceQuota                      // 486
	RefusedUserQuota                        // 486
	RefusedDailyBytes                       // 486: the user has relayed MaxBytesPerUserPerDay today
	RefusedToken                            // 508: the reservation token is unknown or expired
	RefusedNoPort                           // 508: no port is free, or the system has no more sockets
	NumRefusalReasons                       // number of reasons
)

// String returns the reason as a metric label.
func (r RefusalReason) String() string {
	return [...]string{
		"credentials", "expired", "far_expiry", "tuple_in_use", "banned", "transport", "attributes", "family", "draining", "total_quota",
		"source_quota",
		"user_quota", "user_bytes_per_day", "reservation_token", "no_port",
	}[r]
}

// EndReason is the reason why an allocation ended.
type EndReason uint8

// Reasons.
const (
	EndedByClient     EndReason = iota // a Refresh request with lifetime 0
	EndedExpired                       // it was not refreshed
	EndedConnection                    // the TCP or TLS connection, or the DTLS association, ended
	EndedSuperseded                    // it was idle, or its client had gone, and its user requested more than MaxAllocationsPerUser
	EndedServer                        // Server.Close was called, or the listening socket failed
	EndedByOperator                    // Server.Disconnect was called
	EndedByUpgrade                     // another process has taken over the server, and could not take over the client's connection
	EndedByDailyBytes                  // its user has relayed MaxBytesPerUserPerDay today
	EndedByUserQuota                   // its user had more than MaxAllocationsPerUser after the grace for clients that roam
	NumEndReasons                      // number of reasons
)

// String returns the reason as a metric label.
func (r EndReason) String() string {
	return [...]string{"client", "expired", "connection_closed", "superseded", "server_closed", "operator", "upgrade", "user_bytes_per_day", "user_quota"}[r]
}

// Event is a change in the life of an allocation.
type Event struct {
	Kind  EventKind
	Time  time.Time
	Tuple FiveTuple
	// Username is the user name that the client sent. With RefusedCredentials, it is unverified.
	Username string
	// Subject is the holder of the credential, as counted by quotas. It is zero with RefusedCredentials.
	Subject credential.Subject
	Relayed netip.AddrPort // zero for AllocationRefused

	Lifetime time.Duration  // AllocationMade, AllocationRefreshed
	Code     stun.ErrorCode // AllocationRefused
	Refusal  RefusalReason  // AllocationRefused
	End      EndReason      // AllocationEnded
	Made     time.Time      // AllocationEnded
	ToPeer   Traffic        // AllocationEnded
	ToClient Traffic        // AllocationEnded
	// Dropped contains the number of dropped packets by reason, for AllocationEnded. Reasons without any are absent.
	Dropped map[DropReason]uint32
}

// LogValue implements slog.LogValuer. The value contains the client's address and user name, so it is meant for debug level.
func (e Event) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("client", e.Tuple.Client.String()),
		slog.String("transport", e.Tuple.Transport.String()),
		slog.String("username", e.Username),
	}
	if e.Subject.Name != "" && e.Subject.Name != e.Username {
		attrs = append(attrs, slog.String("account", e.Subject.Name))
	}
	if e.Subject.Realm != "" {
		attrs = append(attrs, slog.String("realm", e.Subject.Realm))
	}
	if e.Relayed.IsValid() {
		attrs = append(attrs, slog.String("relay", e.Relayed.String()))
	}
	switch e.Kind {
	case AllocationMade, AllocationRefreshed:
		attrs = append(attrs, slog.Duration("lifetime", e.Lifetime))
	case AllocationRefused:
		attrs = append(attrs, slog.Int("code", int(e.Code)), slog.String("reason", e.Refusal.String()))
	case AllocationEnded:
		attrs = append(attrs, slog.String("reason", e.End.String()),
			slog.Uint64("to_peer_bytes", e.ToPeer.Bytes), slog.Uint64("to_peer_packets", e.ToPeer.Packets),
			slog.Uint64("to_client_bytes", e.ToClient.Bytes), slog.Uint64("to_client_packets", e.ToClient.Packets))
		for _, reason := range slices.Sorted(maps.Keys(e.Dropped)) {
			attrs = append(attrs, slog.Uint64("dropped_"+reason.String(), uint64(e.Dropped[reason])))
		}
	}
	return slog.GroupValue(attrs...)
}
