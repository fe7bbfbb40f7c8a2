package turnsrv

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// relayedAddress is a relayed transport address of an allocation, RFC 8656 section 3.2. It implements relay.Owner.
type relayedAddress struct {
	allocation *allocation
	conn       *relay.Conn
	family     stun.Family

	expires time.Time // owned by the goroutine of the front
	ended   bool      // likewise
	place   int       // in the holding; guarded by quota.mu

	toPeer, toClient traffic
	dropped          [numDropReasons]atomic.Uint32
}

// send sends what the client has for a peer, if p, which is what is known of the peer's address, allows it. It is for the
// goroutine of the front.
func (r *relayedAddress) send(data []byte, peer netip.AddrPort, p *permission, dontFragment bool, now time.Time) {
	a := r.allocation
	switch {
	case p == nil:
		r.drop(DropNoPermission, peer, nil)
	case !a.mayGo(p, peer.Addr(), cost(len(data), peer.Addr()), now):
		r.drop(DropSilentPeer, peer, nil)
	case !a.mayRelay(toPeer, len(data), peer.Addr(), now):
		r.drop(DropBandwidth, peer, nil)
	default:
		r.conn.Send(data, peer, dontFragment, now)
	}
}

// maxIndicated is the longest datagram that fits a Data indication, in bytes: with its padding, an IPv6 address and two
// attribute headers.
const maxIndicated = 65500

// Deliver implements relay.Owner, RFC 8656 sections 11.3 and 12.7. It takes no lock that the goroutine of the front holds while
// it sends the other way.
func (r *relayedAddress) Deliver(peer netip.AddrPort, data []byte, now time.Time) {
	a := r.allocation
	s := a.front.shared
	p, number, bound := a.peers.reachable(peer, now)
	if p == nil {
		r.drop(DropPeerNoPermission, peer, nil)
		return
	}
	if !p.heard.Load() { // read first: what nobody writes to stays in the cache of every processor
		p.heard.Store(true)
	}
	if !bound && len(data) > maxIndicated {
		r.drop(DropOversize, peer, nil)
		return
	}
	if a.silence.leaveOut(a.front.link.full, now) {
		r.drop(DropSend, peer, errSilentClient)
		return
	}
	if !a.mayRelay(toClient, len(data), peer.Addr(), now) {
		r.drop(DropBandwidth, peer, nil)
		return
	}
	b := s.builders.Get().(*stun.Builder)
	defer s.builders.Put(b)
	if bound {
		b.ChannelData(number, data)
	} else {
		var id stun.TransactionID // RFC 8489 section 5; nobody answers an indication, so guessing it gains nothing
		binary.LittleEndian.PutUint64(id[:], rand.Uint64())
		binary.LittleEndian.PutUint32(id[8:], rand.Uint32())
		b.Start(stun.MethodData, stun.ClassIndication, id)
		b.XORAddress(stun.AttrXORPeerAddress, peer)
		b.Attr(stun.AttrData, data)
	}
	if err := a.front.link.send(b.Bytes(), a.client, media); err != nil {
		r.drop(dropReason(err), peer, err)
		return
	}
	r.toClient.add(len(data))
	s.counters.toClient.add(len(data))
}

// Sent implements relay.Owner.
func (r *relayedAddress) Sent(size int) {
	r.toPeer.add(size)
	r.allocation.front.shared.counters.toPeer.add(size)
}

// Refused implements relay.Owner.
func (r *relayedAddress) Refused(peer netip.AddrPort, rule string, now time.Time) {
	r.drop(DropRefusedPeer, peer, rule)
	r.allocation.front.shared.logRefusedPeer(peer.Addr(), rule, now)
}

// Unsent implements relay.Owner.
func (r *relayedAddress) Unsent(err error) { r.drop(DropSend, netip.AddrPort{}, err) }
