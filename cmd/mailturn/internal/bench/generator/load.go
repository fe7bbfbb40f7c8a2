// Package generator acts as both parties of many calls through a TURN server. It sends a load, checks every packet that comes back,
// and reports how many were lost and how long the others took. It uses less CPU time than a server: one socket serves all parties
// of a kind, and a system call moves many packets. It requires Linux.
package generator

import (
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/load"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// A Load describes what each party of some calls sends.
type Load struct {
	Calls int
	// PPS is the number of packets per second that each party sends, in bursts of Burst, at times that differ between parties. Zero
	// means as many as the server relays: a party has Window packets under way, and sends another when one has arrived or is lost.
	PPS, Burst, Window int
	Size               int // bytes of payload in a packet, MinSize to MaxSize
}

// Limits of a payload's size.
const (
	MinSize = headerLen
	MaxSize = 1400
)

// headerLen is the length of a payload's header: the time of sending, in nanoseconds since the generator began, and the packet's
// number in its direction.
const headerLen = 16

// A Party is one end of a call.
type Party struct {
	// Local is its own address, with the port of its side: see Ports. It is not used with a stream or an association.
	Local netip.Addr
	// Remote is the destination of its packets, and the required source of those it receives: the server for a client, the relayed
	// address for a peer. It is not used with a stream or an association.
	Remote netip.AddrPort
	// Channel is its channel number for ChannelData. A peer has none, and sends bare payloads.
	Channel stun.ChannelNumber
	// Stream is the connection of a client over TCP or TLS, whose descriptor the generator owns.
	Stream *Stream
	// Association is the association of a client over DTLS, which the generator owns.
	Association *Association
}

// A Call has two parties. The first is a client, the second a peer or another client.
type Call [2]Party

// The parties of a call, and the directions of packets, named after the receiver.
const (
	Client = iota
	Peer
)

// A Result is the result of a load.
type Result struct {
	Sent, Received uint64
	Late           load.Histogram // delays of the packets
	Took           time.Duration  // until the last packet was sent, at the rate of a load, or arrived
}

// Lost returns the share of packets that did not arrive, from 0 to 1.
func (r *Result) Lost() float64 {
	if r.Sent == 0 {
		return 0
	}
	return 1 - float64(r.Received)/float64(r.Sent)
}
