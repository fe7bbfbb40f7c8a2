package turnsrv

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// allocation is what the front knows of one allocation, RFC 8656 section 3.2, or of one half of a dual allocation. It
// implements relay.Owner.
type allocation struct {
	front  *front
	client client
	relay  *relay.Conn // written before there is a permission; who may come earlier has to hold mu
	dual   *allocation // the other relayed address of the 5-tuple, or nil; owned by the goroutine of the front

	// handle is pion's name for the client: an address that no other allocation of this process has, had or will have.
	handle   net.UDPAddr
	handleIP [16]byte

	*holder // of both halves
	family  stun.Family

	// made and response are the transaction that made the allocation and its answer, for when it is sent again.
	made     stun.TransactionID
	response []byte

	// Owned by the goroutine of the front.
	expires     time.Time
	pionExpires time.Time
	known       bool // to pion
	silent      silentSpending

	silence silence
	place   int         // in the holding; guarded by quota.mu
	ending  atomic.Bool // the front has decided to end it; pion's callbacks read this too

	mu          sync.RWMutex // guards what follows, which the relay's reader needs
	permissions map[netip.Addr]*permission
	channels    map[stun.ChannelNumber]channelBinding
	numbers     map[netip.AddrPort]stun.ChannelNumber

	toPeer, toClient traffic
	dropped          [numDropReasons]atomic.Uint32
	bandwidths       bandwidths
}

// channelBinding binds a channel number to a peer until it expires, RFC 8656 section 12.
type channelBinding struct {
	peer       netip.AddrPort
	permission *permission // of the peer's address, which may expire first: see reachable
	expires    time.Time
}

// newAllocation returns an allocation with a handle of its own and everything else left to the caller.
func (f *front) newAllocation(from client) *allocation {
	a := &allocation{front: f, client: from, permissions: make(map[netip.Addr]*permission)}
	a.handleIP[0] = 0xFD
	binary.BigEndian.PutUint64(a.handleIP[8:], f.server.handles.Add(1))
	a.handle = net.UDPAddr{IP: a.handleIP[:], Port: 1}
	return a
}

// hear notes that something has come from the client, for either half of a dual allocation.
func (a *allocation) hear(now time.Time) {
	a.silence.hear(now)
	if a.dual != nil {
		a.dual.silence.hear(now)
	}
}

// reachable returns what is known of the address of peer if the client may send to peer and hear from it, and nil otherwise:
// there is a permission for the address (RFC 8656 section 9), or a channel is bound to peer itself. number is that channel's,
// if bound is true.
//
// ChannelBind installs a permission of 5 minutes and a channel of 10. Clients such as aioice bind again before the channel
// expires and send no CreatePermission in between. RFC 8656 section 12.6 asks for no permission from client to peer, so the
// channel vouches for its own peer address; other ports of the host end with the permission.
func (a *allocation) reachable(peer netip.AddrPort, now time.Time) (p *permission, number stun.ChannelNumber, bound bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if number, bound = a.numbers[peer]; bound {
		if b := a.channels[number]; now.Before(b.expires) {
			return b.permission, number, true
		}
	}
	if p = a.permissions[peer.Addr()]; p != nil && now.Before(p.expires) {
		return p, 0, false
	}
	return nil, 0, false
}

// bound returns the peer that number is bound to and what is known of its address, which is nil if there is no such channel.
func (a *allocation) bound(number stun.ChannelNumber, now time.Time) (peer netip.AddrPort, p *permission) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	b, ok := a.channels[number]
	if !ok || !now.Before(b.expires) {
		return netip.AddrPort{}, nil
	}
	return b.peer, b.permission
}

// forget drops permissions and channels that have expired. Until a request asks for more of them they are merely not used.
func (a *allocation) forget(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for number, b := range a.channels {
		if !now.Before(b.expires) {
			delete(a.channels, number)
			delete(a.numbers, b.peer)
			b.permission.channels--
		}
	}
	maps.DeleteFunc(a.permissions, func(_ netip.Addr, p *permission) bool {
		return !now.Before(p.expires) && p.channels == 0
	})
}

// sendOn sends what the client has for a peer, if p, what reachable returns for it, lets it. It is for the goroutine of the
// front.
func (a *allocation) sendOn(data []byte, peer netip.AddrPort, p *permission, dontFragment bool, now time.Time) {
	s := a.front.server
	switch {
	case p == nil:
		a.drop(DropNoPermission, peer, nil)
	case !a.mayGo(p, peer.Addr(), len(data), now):
		a.drop(DropSilentPeer, peer, nil)
	case !s.bandwidth(&a.bandwidths.toPeer, &s.total.toPeer, len(data), now):
		a.drop(DropBandwidth, peer, nil)
	default:
		a.relay.Send(data, peer, dontFragment)
	}
}

// maxIndicated is the longest datagram that fits a Data indication, in bytes: with its padding, an IPv6 address and two
// attribute headers.
const maxIndicated = 65500

// Deliver implements relay.Owner, RFC 8656 sections 11.3 and 12.7. It takes no lock of the front, whose goroutine may be
// sending the other way, and tells pion nothing.
func (a *allocation) Deliver(peer netip.AddrPort, data []byte) {
	now := time.Now()
	p, number, bound := a.reachable(peer, now)
	s := a.front.server
	if p == nil {
		a.drop(DropPeerNoPermission, peer, nil)
		return
	}
	if !p.heard.Load() { // looked at first: what nobody writes to stays in the cache of every processor
		p.heard.Store(true)
	}
	if !bound && len(data) > maxIndicated {
		a.drop(DropOversize, peer, nil)
		return
	}
	if a.silence.leaveOut(a.front.link.full, now) {
		a.drop(DropSend, peer, errSilentClient)
		return
	}
	if !s.bandwidth(&a.bandwidths.toClient, &s.total.toClient, len(data), now) {
		a.drop(DropBandwidth, peer, nil)
		return
	}
	b := s.builders.Get().(*stun.Builder)
	defer s.builders.Put(b)
	if bound {
		b.ChannelData(number, data)
	} else {
		var id stun.TransactionID // RFC 8489 section 5; nobody answers an indication, so that guessing it gains nothing
		binary.LittleEndian.PutUint64(id[:], rand.Uint64())
		binary.LittleEndian.PutUint32(id[8:], rand.Uint32())
		b.Start(stun.MethodData, stun.ClassIndication, id)
		b.XORAddress(stun.AttrXORPeerAddress, peer)
		b.Attr(stun.AttrData, data)
	}
	if err := a.front.link.send(b.Bytes(), a.client, media); err != nil {
		a.drop(dropReason(err), peer, err)
		return
	}
	a.toClient.add(len(data))
	s.counters.toClient.add(len(data))
}

// Sent implements relay.Owner.
func (a *allocation) Sent(size int) {
	a.toPeer.add(size)
	a.front.server.counters.toPeer.add(size)
}

// Refused implements relay.Owner.
func (a *allocation) Refused(peer netip.AddrPort, rule string) {
	a.drop(DropRefusedPeer, peer, rule)
	a.front.server.logRefusedPeer(peer.Addr(), rule, time.Now())
}

// Unsent implements relay.Owner.
func (a *allocation) Unsent(err error) { a.drop(DropSend, netip.AddrPort{}, err) }
