package count

import (
	"slices"
	"sync/atomic"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Counters are the live counters of one server. Safe for concurrent use.
type Counters struct {
	Streams         atomic.Int64
	StreamsRefused  atomic.Uint64
	Live            [event.NumTransports]atomic.Int64
	Made, Refreshed atomic.Uint64
	Refused         [event.NumRefusalReasons]atomic.Uint64
	Ended           [event.NumEndReasons]atomic.Uint64
	ToPeer          Traffic
	ToClient        Traffic
	KernelToPeer    Traffic       // part of ToPeer
	KernelToClient  Traffic       // part of ToClient
	KernelChannels  atomic.Int64  // channels that the kernel relays
	ICMP            atomic.Uint64 // ICMP errors that clients got
	Dropped         [event.NumDropReasons]atomic.Uint64
	Panics          atomic.Uint64 // without an event loop
	Errors          [len(RequestMethods)][len(ErrorCodes)]atomic.Uint64
}

// RequestMethods are the methods of requests that get a response, and ErrorCodes the possible error codes.
var (
	RequestMethods = [...]stun.Method{
		stun.MethodBinding, stun.MethodAllocate, stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind,
	}
	ErrorCodes = [...]stun.ErrorCode{
		stun.CodeTryAlternate, stun.CodeBadRequest, stun.CodeUnauthenticated, stun.CodeForbidden, stun.CodeUnknownAttribute, stun.CodeAllocationMismatch,
		stun.CodeStaleNonce, stun.CodeAddressFamilyNotSupported, stun.CodeWrongCredentials,
		stun.CodeUnsupportedTransportProtocol, stun.CodePeerAddressFamilyMismatch, stun.CodeAllocationQuotaReached,
		stun.CodeServerError, stun.CodeInsufficientCapacity,
	}
)

// Traffic counts what is relayed in one direction.
type Traffic struct {
	Packets, bytes atomic.Uint64
}

// Add counts a packet with the given number of payload bytes.
func (t *Traffic) Add(bytes int) {
	t.Packets.Add(1)
	t.bytes.Add(uint64(bytes))
}

// AddAll counts packets with the given number of payload bytes together.
func (t *Traffic) AddAll(packets, bytes uint64) {
	t.Packets.Add(packets)
	t.bytes.Add(bytes)
}

// Snapshot returns the current counts.
func (t *Traffic) Snapshot() event.Traffic {
	return event.Traffic{Packets: t.Packets.Load(), Bytes: t.bytes.Load()}
}

// Drop counts a dropped packet.
func (c *Counters) Drop(r event.DropReason) { c.Dropped[r].Add(1) }

// Respond counts an error response.
func (c *Counters) Respond(method stun.Method, code stun.ErrorCode) {
	i, j := slices.Index(RequestMethods[:], method), slices.Index(ErrorCodes[:], code)
	if i >= 0 && j >= 0 {
		c.Errors[i][j].Add(1)
	}
}
