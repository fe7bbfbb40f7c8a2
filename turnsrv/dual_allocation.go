package turnsrv

import (
	"iter"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// A dual allocation, RFC 8656 section 3.2, has two relayed addresses, one of each family. pion knows nothing of that: it
// carries two allocations, with a handle each, and the front holds them together. What a request asks of a dual allocation
// it asks of one of the two, which the family of the peer decides, or of both.

// relays yields the relayed addresses of the 5-tuple that a is one of, except those that are ending. It is for the
// goroutine of the front.
func (a *allocation) relays() iter.Seq[*allocation] {
	return func(yield func(*allocation) bool) {
		if !a.ending.Load() && !yield(a) {
			return
		}
		if a.dual != nil && !a.dual.ending.Load() {
			yield(a.dual)
		}
	}
}

// towards returns the relayed address that reaches peer, the one of its family, or nil if there is none. An IPv4-mapped
// address is of neither family: it names a peer that an IPv6 socket does not reach.
func (a *allocation) towards(peer netip.AddrPort) *allocation {
	if peer.Addr().Is4In6() {
		return nil
	}
	for relay := range a.relays() {
		if peer.Addr().Is4() == (relay.family == stun.IPv4) {
			return relay
		}
	}
	return nil
}

// channel returns the peer that number is bound to with the permission that it has, or nil, and the relayed address on which
// it is. Channel numbers are those of the 5-tuple.
func (a *allocation) channel(number stun.ChannelNumber, now time.Time) (relay *allocation, peer netip.AddrPort, p *permission) {
	for relay := range a.relays() {
		if peer, p := relay.bound(number, now); p != nil {
			return relay, peer, p
		}
	}
	return nil, netip.AddrPort{}, nil
}

// current returns a relayed address of the client's, or nil if it has none whose time is not over.
func (f *front) current(from client, now time.Time) *allocation {
	a := f.allocations[from]
	if a == nil {
		return nil
	}
	for relay := range a.relays() {
		if !now.Before(relay.expires) {
			f.end(relay, EndedExpired, nil)
		}
	}
	for relay := range a.relays() {
		return relay
	}
	return nil
}
