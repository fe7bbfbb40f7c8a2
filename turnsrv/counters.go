package turnsrv

import (
	"sync/atomic"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// ErrorResponse identifies a kind of error response.
type ErrorResponse struct {
	Method stun.Method
	Code   stun.ErrorCode
}

// Counters is a snapshot of the counters of a Server. All of them only increase, except those marked live. Maps contain every
// value of their key type, except Errors, which contains only non-zero counts. Each relayed transport address of a dual
// allocation counts as an allocation.
type Counters struct {
	Allocations            int                     // live
	AllocationsByTransport map[event.Transport]int // live
	Streams                int                     // live TCP and TLS connections, and DTLS associations
	StreamsRefused         uint64                  // those closed because there were Config.MaxStreams

	AllocationsMade      uint64
	AllocationsRefreshed uint64
	AllocationsRefused   map[event.RefusalReason]uint64
	AllocationsEnded     map[event.EndReason]uint64

	ToPeer   event.Traffic
	ToClient event.Traffic
	ICMP     uint64 // ICMP errors that clients got, RFC 8656 section 11.5
	Dropped  map[event.DropReason]uint64

	Errors map[ErrorResponse]uint64

	Workers WorkerCounters // of all workers together
	Kernel  KernelCounters
}

// WorkerCounters count what the workers of a Server have done.
type WorkerCounters = loop.Counts

// snapshot returns everything but Allocations.
func snapshot(c *count.Counters) Counters {
	s := Counters{
		AllocationsByTransport: make(map[event.Transport]int, event.NumTransports),
		Streams:                int(c.Streams.Load()),
		StreamsRefused:         c.StreamsRefused.Load(),
		AllocationsMade:        c.Made.Load(),
		AllocationsRefreshed:   c.Refreshed.Load(),
		AllocationsRefused:     load[event.RefusalReason](c.Refused[:]),
		AllocationsEnded:       load[event.EndReason](c.Ended[:]),
		ToPeer:                 c.ToPeer.Snapshot(),
		ToClient:               c.ToClient.Snapshot(),
		ICMP:                   c.ICMP.Load(),
		Dropped:                load[event.DropReason](c.Dropped[:]),
		Errors:                 make(map[ErrorResponse]uint64),
	}
	for i := range c.Live {
		s.AllocationsByTransport[event.Transport(i)] = int(c.Live[i].Load())
	}
	for i, method := range count.RequestMethods {
		for j, code := range count.ErrorCodes {
			if n := c.Errors[i][j].Load(); n > 0 {
				s.Errors[ErrorResponse{method, code}] = n
			}
		}
	}
	return s
}

// load returns the values of counters that are indexed by K.
func load[K ~uint8](counters []atomic.Uint64) map[K]uint64 {
	counts := make(map[K]uint64, len(counters))
	for i := range counters {
		counts[K(i)] = counters[i].Load()
	}
	return counts
}
