package session

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Limits of the ICMP errors that a client gets. A client needs one to learn that a peer cannot be reached, or a packet is too long, while
// anybody who knows a relayed address and one of its peers can forge them.
const (
	icmpPerSecond = 5
	icmpBurst     = 10
)

// passesICMP reports whether clients get ICMP errors of a type, RFC 8656 section 11.5.
func passesICMP(family stun.Family, typ uint8) bool {
	if family == stun.IPv4 {
		return typ == 3 || typ == 11 // destination unreachable, time exceeded
	}
	return typ >= 1 && typ <= 3 // destination unreachable, packet too big, time exceeded
}

// Failed implements relay.Owner, RFC 8656 section 11.5. The system has found the relayed address by the packet in the ICMP error. The
// client gets a Data indication even if the peer has a channel: a channel cannot carry an ICMP error.
func (r *relayedAddress) Failed(peer netip.AddrPort, e stun.ICMP, now time.Time) {
	a := r.allocation
	s := a.session.shared
	if a.session.loop != nil {
		defer a.session.endOnPanic(a.client, now)
	} else {
		defer r.endLaterOnPanic()
	}
	if !passesICMP(r.family, e.Type) {
		return
	}
	if p, _, _ := a.reachable(peer, now); p == nil {
		return
	}
	at := now.Sub(s.start)
	if !a.icmp.Take(1, icmpPerSecond, icmpBurst, at) || a.silence.LeaveOut(a.session.link.Full, now, at) {
		return
	}
	b := a.session.builder()
	defer a.session.release(b)
	startData(b, peer)
	b.ICMP(e)
	a.session.link.Send(b.Bytes(), a.client, Media, 0, (*icmpTo)(r))
}

// startData begins a Data indication, RFC 8656 section 11.3.
func startData(b *stun.Builder, peer netip.AddrPort) {
	var id stun.TransactionID // RFC 8489 section 5; indications have no response, so the ID need not be random
	binary.LittleEndian.PutUint64(id[:], rand.Uint64())
	binary.LittleEndian.PutUint32(id[8:], rand.Uint32())
	b.Start(stun.MethodData, stun.ClassIndication, id)
	b.XORAddress(stun.AttrXORPeerAddress, peer)
}

// icmpTo counts the ICMP errors that a client gets. It implements Sender.
type icmpTo relayedAddress

// Sent implements Sender.
func (t *icmpTo) Sent(_ int, err error) {
	if err == nil {
		(*relayedAddress)(t).allocation.session.shared.Counters.ICMP.Add(1)
	}
}
