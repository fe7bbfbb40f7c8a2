package session

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

// relayedAddress is a relayed transport address of an allocation, RFC 8656 section 3.2. It implements relay.Owner.
type relayedAddress struct {
	allocation *allocation
	conn       *relay.Conn
	expires    time.Duration // since Shared.start; owned by the goroutine of the session
	place      int           // in the holding; guarded by quota.mu
	roamed     bool          // begun beyond the quota, because the client may have roamed; guarded by quota.mu
	family     stun.Family

	toPeer, toClient count.Traffic
	metered          usage.Total           // of these, what the meter knows; owned by the goroutine of the session
	dropped          atomic.Pointer[drops] // nil until a packet is dropped
}

// send sends data from the client to a peer if p, the state of the peer's address, allows it. It is called by the goroutine of
// the session.
func (r *relayedAddress) send(data []byte, peer netip.AddrPort, p *permission, dontFragment bool, now time.Time) {
	a := r.allocation
	a.session.stir(a)
	switch {
	case p == nil:
		r.drop(event.DropNoPermission, peer, nil)
	case !a.mayGo(p, peer.Addr(), cost(len(data), peer.Addr()), now):
		r.drop(event.DropSilentPeer, peer, nil)
	case !a.mayTalk(data, now):
		r.drop(event.DropCalls, peer, nil)
	case !a.mayRelay(toPeer, len(data), peer.Addr(), now):
		r.drop(event.DropBandwidth, peer, nil)
	default:
		r.conn.Send(data, peer, dontFragment, now)
	}
}

// maxIndicated is the length in bytes of the longest datagram that fits in a Data indication, with padding, an IPv6 address and
// two attribute headers.
const maxIndicated = 65500

// Deliver implements relay.Owner, RFC 8656 sections 11.3 and 12.7. It takes no lock that the goroutine of the session holds
// while sending in the other direction.
func (r *relayedAddress) Deliver(peer netip.AddrPort, data []byte, now time.Time) {
	a := r.allocation
	if a.session.loop != nil {
		defer a.session.endOnPanic(a.client, now)
	} else {
		defer r.endLaterOnPanic()
	}
	p, number, bound := a.reachable(peer, now)
	if p == nil {
		r.drop(event.DropPeerNoPermission, peer, nil)
		return
	}
	if !a.session.apart {
		a.session.stir(a)
	}
	if !p.heard.Load() { // load before storing: a value that is only read stays in the cache of every processor
		p.heard.Store(true)
	}
	if !bound && len(data) > maxIndicated {
		r.drop(event.DropOversize, peer, nil)
		return
	}
	if a.silence.LeaveOut(a.session.link.Full, now, now.Sub(a.session.shared.start)) {
		r.drop(event.DropSend, peer, errSilentClient)
		return
	}
	if !a.mayHear(data, now) {
		r.drop(event.DropCalls, peer, nil)
		return
	}
	if !a.mayRelay(toClient, len(data), peer.Addr(), now) {
		r.drop(event.DropBandwidth, peer, nil)
		return
	}
	b := a.session.builder()
	defer a.session.release(b)
	if bound {
		b.ChannelData(number, data)
	} else {
		startData(b, peer)
		b.Attr(stun.AttrData, data)
	}
	a.session.link.Send(b.Bytes(), a.client, Media, len(data), (*toClientOf)(r))
}

// endLaterOnPanic is the equivalent of Session.endOnPanic on a goroutine other than that of the session. It recovers from the panic.
func (r *relayedAddress) endLaterOnPanic() {
	if value := recover(); value != nil {
		s := r.allocation.session
		s.shared.panicked(value)
		s.asked.add(func(now time.Time) { s.endAddresses(r.allocation.addresses, event.EndedConnection, now) })
		s.link.Wake()
	}
}

// toClientOf counts what a relayed address has sent to its client. It implements Sender.
type toClientOf relayedAddress

// Sent implements Sender.
func (t *toClientOf) Sent(payload int, err error) {
	r := (*relayedAddress)(t)
	if err != nil {
		r.drop(dropReason(err), netip.AddrPort{}, err)
		return
	}
	r.toClient.Add(payload)
	r.allocation.session.shared.Counters.ToClient.Add(payload)
}

// Sent implements relay.Owner.
func (r *relayedAddress) Sent(size int, err error) {
	if err != nil {
		r.drop(event.DropSend, netip.AddrPort{}, err)
		return
	}
	r.toPeer.Add(size)
	r.allocation.session.shared.Counters.ToPeer.Add(size)
}

// Refused implements relay.Owner.
func (r *relayedAddress) Refused(peer netip.AddrPort, rule string, now time.Time) {
	r.drop(event.DropRefusedPeer, peer, rule)
	r.allocation.session.shared.logRefusedPeer(peer.Addr(), rule, now)
}
