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

// DropReason says why a packet went nowhere.
type DropReason uint8

// Reasons, in the order of a packet's way.
const (
	DropMalformed       DropReason = iota // neither STUN nor ChannelData, or with a length or FINGERPRINT that is wrong
	DropUnexpected                        // a method or class that a TURN server does not take
	DropUnauthenticated                   // a request without credentials, beyond the rate of its network
	DropGuess                             // a request with wrong credentials, after too many from its address
	DropNoAllocation                      // data from a client that has none
	DropNoPermission                      // data to or from a peer without a permission, or on a channel that is not bound
	DropSilentPeer                        // data to a peer that never answers, beyond what such a one gets
	DropBandwidth                         // data beyond what an allocation, or all of them, may relay
	DropRefusedPeer                       // data to a peer that the policy refuses
	DropOversize                          // a datagram from a peer larger than the relay forwards
	DropQueue                             // data for a stream client that does not read
	DropSend                              // the socket did not take it
	DropDTLS                              // belongs to no DTLS association, or none would send it, or there are too many of them
	numDropReasons
)

// String returns the reason as a metric's label.
func (r DropReason) String() string {
	return [...]string{
		"malformed", "unexpected", "unauthenticated", "guess", "no_allocation", "no_permission", "silent_peer", "bandwidth",
		"refused_peer", "oversize", "queue", "send", "dtls",
	}[r]
}

// ErrorResponse is one kind of error response.
type ErrorResponse struct {
	Method stun.Method
	Code   stun.ErrorCode
}

// Counters is a snapshot of what a Server has done since it was made. Everything but Allocations and Streams only grows.
type Counters struct {
	Allocations     int // live
	Streams         int // live TCP and TLS connections, and DTLS associations
	AllocationsMade uint64
	ToPeer          Traffic
	ToClient        Traffic
	Dropped         map[DropReason]uint64
	Errors          map[ErrorResponse]uint64
}

// counters are the live ones. Each counter is added to by several goroutines.
type counters struct {
	streams         atomic.Int64
	allocationsMade atomic.Uint64
	toPeer          traffic
	toClient        traffic
	dropped         [numDropReasons]atomic.Uint64
}

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
