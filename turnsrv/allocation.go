package turnsrv

import (
	"encoding/binary"
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
	relay  *relay.Conn
	dual   *allocation // the other relayed address of the 5-tuple, or nil; owned by the goroutine of the front

	// handle is pion's name for the client: an address that no other allocation of this process has, had or will have.
	handle   net.UDPAddr
	handleIP [16]byte

	username          string
	subject           string
	key               []byte
	credentialExpires time.Time // zero: never
	family            stun.Family

	// made and response are the transaction that made the allocation and its answer, for when it is sent again.
	made     stun.TransactionID
	response []byte

	// Owned by the goroutine of the front.
	expires     time.Time
	pionExpires time.Time
	known       bool // to pion

	ending atomic.Bool // the front has decided to end it; pion's callbacks read this too

	mu          sync.RWMutex // guards what follows, which the relay's reader needs
	permissions map[netip.Addr]*permission
	channels    map[stun.ChannelNumber]channelBinding
	numbers     map[netip.AddrPort]stun.ChannelNumber

	toPeer, toClient traffic
	bandwidths       bandwidths
}

// channelBinding binds a channel number to a peer until it expires, RFC 8656 section 12.
type channelBinding struct {
	peer    netip.AddrPort
	expires time.Time
}

// newAllocation returns an allocation with a handle of its own and everything else left to the caller.
func (f *front) newAllocation(from client) *allocation {
	a := &allocation{front: f, client: from, permissions: make(map[netip.Addr]*permission)}
	a.handleIP[0] = 0xFD
	binary.BigEndian.PutUint64(a.handleIP[8:], f.server.handles.Add(1))
	a.handle = net.UDPAddr{IP: a.handleIP[:], Port: 1}
	return a
}

// permission returns the permission that addr has, RFC 8656 section 9, or nil.
func (a *allocation) permission(addr netip.Addr, now time.Time) *permission {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if p := a.permissions[addr]; p != nil && now.Before(p.expires) {
		return p
	}
	return nil
}

// bound returns the peer that number is bound to.
func (a *allocation) bound(number stun.ChannelNumber, now time.Time) (netip.AddrPort, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	b, ok := a.channels[number]
	return b.peer, ok && now.Before(b.expires)
}

// channelOf returns the number that peer is bound to.
func (a *allocation) channelOf(peer netip.AddrPort, now time.Time) (stun.ChannelNumber, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	number, ok := a.numbers[peer]
	return number, ok && now.Before(a.channels[number].expires)
}

// admit reports whether size bytes from a peer may pass to the client, and counts them: a datagram passes only from an address
// with a permission.
func (a *allocation) admit(peer netip.AddrPort, size int, now time.Time) bool {
	p := a.permission(peer.Addr(), now)
	if p == nil {
		a.front.server.counters.drop(DropNoPermission)
		return false
	}
	if !p.heard.Load() { // looked at first: what nobody writes to stays in the cache of every processor
		p.heard.Store(true)
	}
	if s := a.front.server; !s.bandwidth(&a.bandwidths.toClient, &s.total.toClient, size, now) {
		return false
	}
	a.toClient.add(size)
	a.front.server.counters.toClient.add(size)
	return true
}

// maxIndicated is the longest datagram that fits a Data indication, in bytes: with its padding, an IPv6 address and two
// attribute headers.
const maxIndicated = 65500

// Deliver implements relay.Owner, RFC 8656 sections 11.3 and 12.7. It takes no lock of the front, whose goroutine may be
// sending the other way, and tells pion nothing.
func (a *allocation) Deliver(peer netip.AddrPort, data []byte) {
	now := time.Now()
	number, bound := a.channelOf(peer, now)
	if !bound && len(data) > maxIndicated {
		a.front.server.counters.drop(DropOversize)
		return
	}
	if !a.admit(peer, len(data), now) {
		return
	}
	s := a.front.server
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
	a.front.link.send(b.Bytes(), a.client, media)
}

// Sent implements relay.Owner.
func (a *allocation) Sent(size int) {
	a.toPeer.add(size)
	a.front.server.counters.toPeer.add(size)
}

// Refused implements relay.Owner.
func (a *allocation) Refused(peer netip.AddrPort, rule string) {
	a.front.server.counters.drop(DropRefusedPeer)
	a.front.server.logRefusedPeer(peer.Addr(), rule, time.Now())
}

// Unsent implements relay.Owner.
func (a *allocation) Unsent(error) { a.front.server.counters.drop(DropSend) }
