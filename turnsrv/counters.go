package turnsrv

import (
	"sync/atomic"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Traffic counts what was relayed in one direction: packets, and bytes of what peers send and receive, without headers.
type Traffic struct {
	Packets uint64
	Bytes   uint64
}

// ErrorResponse is one kind of error response.
type ErrorResponse struct {
	Method stun.Method
	Code   stun.ErrorCode
}

// Counters is a snapshot of what a Server has done since it was made. Everything but what is said to be live only grows.
// Maps hold every value of their keys' types, but Errors only what has happened. Each relayed address of a dual allocation
// counts as an allocation.
type Counters struct {
	Allocations            int               // live
	AllocationsByTransport map[Transport]int // live
	Streams                int               // live TCP and TLS connections, and DTLS associations
	StreamsRefused         uint64            // those that were closed because there were Config.MaxStreams

	AllocationsMade      uint64
	AllocationsRefreshed uint64
	AllocationsRefused   map[RefusalReason]uint64
	AllocationsEnded     map[EndReason]uint64

	ToPeer   Traffic
	ToClient Traffic
	Dropped  map[DropReason]uint64

	Errors map[ErrorResponse]uint64
}

// counters are the live ones. Each counter is added to by several goroutines.
type counters struct {
	streams         atomic.Int64
	streamsRefused  atomic.Uint64
	live            [numTransports]atomic.Int64
	made, refreshed atomic.Uint64
	refused         [numRefusalReasons]atomic.Uint64
	ended           [numEndReasons]atomic.Uint64
	toPeer          traffic
	toClient        traffic
	dropped         [numDropReasons]atomic.Uint64
	errors          [len(requestMethods)][len(errorCodes)]atomic.Uint64
}

// requestMethods are the requests that the front takes, and errorCodes those that it may answer with.
var (
	requestMethods = [...]stun.Method{
		stun.MethodBinding, stun.MethodAllocate, stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind,
	}
	errorCodes = [...]stun.ErrorCode{
		stun.CodeBadRequest, stun.CodeUnauthenticated, stun.CodeForbidden, stun.CodeUnknownAttribute, stun.CodeAllocationMismatch,
		stun.CodeStaleNonce, stun.CodeAddressFamilyNotSupported, stun.CodeWrongCredentials,
		stun.CodeUnsupportedTransportProtocol, stun.CodePeerAddressFamilyMismatch, stun.CodeAllocationQuotaReached,
		stun.CodeServerError, stun.CodeInsufficientCapacity,
	}
)

type traffic struct {
	packets, bytes atomic.Uint64
}

func (t *traffic) add(bytes int) {
	t.packets.Add(1)
	t.bytes.Add(uint64(bytes))
}

func (t *traffic) snapshot() Traffic {
	return Traffic{Packets: t.packets.Load(), Bytes: t.bytes.Load()}
}

func (c *counters) drop(r DropReason) { c.dropped[r].Add(1) }

// respond counts an error response.
func (c *counters) respond(method stun.Method, code stun.ErrorCode) {
	for i, m := range requestMethods {
		for j, e := range errorCodes {
			if m == method && e == code {
				c.errors[i][j].Add(1)
				return
			}
		}
	}
}

// snapshot returns everything but Allocations.
func (c *counters) snapshot() Counters {
	s := Counters{
		AllocationsByTransport: make(map[Transport]int, numTransports),
		Streams:                int(c.streams.Load()),
		StreamsRefused:         c.streamsRefused.Load(),
		AllocationsMade:        c.made.Load(),
		AllocationsRefreshed:   c.refreshed.Load(),
		AllocationsRefused:     load[RefusalReason](c.refused[:]),
		AllocationsEnded:       load[EndReason](c.ended[:]),
		ToPeer:                 c.toPeer.snapshot(),
		ToClient:               c.toClient.snapshot(),
		Dropped:                load[DropReason](c.dropped[:]),
		Errors:                 make(map[ErrorResponse]uint64),
	}
	for i := range c.live {
		s.AllocationsByTransport[Transport(i)] = int(c.live[i].Load())
	}
	for i, method := range requestMethods {
		for j, code := range errorCodes {
			if n := c.errors[i][j].Load(); n > 0 {
				s.Errors[ErrorResponse{method, code}] = n
			}
		}
	}
	return s
}

// load reads counters that are numbered by K.
func load[K ~uint8](counters []atomic.Uint64) map[K]uint64 {
	counts := make(map[K]uint64, len(counters))
	for i := range counters {
		counts[K(i)] = counters[i].Load()
	}
	return counts
}
