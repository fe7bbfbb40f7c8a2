// Package generator is both parties of many calls through a TURN server. It sends a load, checks every packet that comes back,
// and says how many were lost and how long the others took. It uses less CPU time than a server: one socket holds all parties of
// a kind, and a system call moves many packets. It needs Linux.
package generator

import (
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/load"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// A Load is what each party of some calls sends.
type Load struct {
	Calls int
	// PPS is the packets a second that each party sends, in bursts of Burst, at moments of its own. Zero is as many as the server
	// relays: a party has Window packets under way, and sends another when one has arrived or is lost.
	PPS, Burst, Window int
	Size               int // bytes of payload in a packet, MinSize to MaxSize
}

// Bounds of a payload.
const (
	MinSize = headerLen
	MaxSize = 1400
)

// headerLen is the length of what is not filling in a payload: the time of sending, in nanoseconds since the generator began,
// and the packet's number in its direction.
const headerLen = 16

// A Party is one end of a call.
type Party struct {
	// Local is its own address, with the port of its side: see Ports. On a stream it is not used.
	Local netip.Addr
	// Remote is where it sends to, and where all that it gets has to come from: the server for a client, the relayed address for
	// a peer. On a stream it is not used.
	Remote netip.AddrPort
	// Channel is the number under which it sends and receives ChannelData. A peer has none, and sends bare payloads.
	Channel stun.ChannelNumber
	// Stream is the connection of a client over TCP or TLS, whose descriptor the generator owns.
	Stream *Stream
}

// A Call is two parties, the client first. The second is a peer, or a client too.
type Call [2]Party

// The parties of a call, and the directions of packets: each is named after who receives.
const (
	Client = iota
	Peer
)

// A Result is what became of a load.
type Result struct {
	Sent, Received uint64
	Late           load.Histogram // how long packets took
	Took           time.Duration
}

// Lost returns the share of packets that did not arrive, 0 to 1.
func (r *Result) Lost() float64 {
	if r.Sent == 0 {
		return 0
	}
	return 1 - float64(r.Received)/float64(r.Sent)
}
