package turnsrv

import (
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// channelLifetime is fixed, RFC 8656 section 12. pion's timer is given the same.
const channelLifetime = 10 * time.Minute

// lastChannelOf8656 ends the range of RFC 8656 section 12.
const lastChannelOf8656 stun.ChannelNumber = 0x4FFF

// channelBind handles a ChannelBind request, RFC 8656 section 12.2. r is authenticated and a is of the same user.
func (f *front) channelBind(r *request, a *allocation, now time.Time) []byte {
	value, ok := uint32Attribute(r.channelNumber)
	number := stun.ChannelNumber(value >> 16)
	if !ok || r.malformedPeer || len(r.peers) == 0 || number < stun.MinChannel || number > f.lastChannel() {
		return f.refuse(&r.origin, stun.CodeBadRequest)
	}
	peer := r.peers[0]
	if peer.Port() == 0 {
		return f.refuse(&r.origin, stun.CodeBadRequest)
	}
	for relay := range a.relays() {
		relay.forget(now)
		if !relay.mayBind(number, peer) {
			return f.refuse(&r.origin, stun.CodeBadRequest)
		}
	}
	if a = a.towards(peer); a == nil {
		return f.refuse(&r.origin, stun.CodePeerAddressFamilyMismatch)
	}
	if rule, ok := f.server.config.Relay.MayReach(peer); !ok {
		f.server.logRefusedPeer(peer.Addr(), rule, now)
		return f.refuse(&r.origin, stun.CodeForbidden)
	}
	if !a.roomForChannel(number, f.server.config.MaxChannels) ||
		!a.roomForPermissions(r.peers[:1], f.server.config.MaxPermissions) {
		return f.refuse(&r.origin, stun.CodeInsufficientCapacity)
	}
	o := r.origin
	f.order(order{
		method: stun.MethodChannelBind, allocation: a, peer: peer, channel: number,
		done: func(ok bool) []byte {
			if !ok {
				return f.refuse(&o, stun.CodeServerError)
			}
			a.bind(number, peer, now)
			f.succeed(&o)
			return f.finish(&o)
		},
	})
	return nil
}

func (f *front) lastChannel() stun.ChannelNumber {
	if f.server.config.StrictChannels {
		return lastChannelOf8656
	}
	return stun.MaxChannel
}

// mayBind reports whether neither number is bound to another peer nor peer to another number.
func (a *allocation) mayBind(number stun.ChannelNumber, peer netip.AddrPort) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if b, ok := a.channels[number]; ok {
		return b.peer == peer
	}
	_, ok := a.numbers[peer]
	return !ok
}

func (a *allocation) roomForChannel(number stun.ChannelNumber, limit int) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	_, has := a.channels[number]
	return has || len(a.channels) < limit
}

// bind makes or refreshes a binding, and the permission for its peer's address with it.
func (a *allocation) bind(number stun.ChannelNumber, peer netip.AddrPort, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.permitLocked(peer.Addr(), now)
	if a.channels == nil {
		a.channels = make(map[stun.ChannelNumber]channelBinding)
		a.numbers = make(map[netip.AddrPort]stun.ChannelNumber)
	}
	if _, again := a.channels[number]; !again {
		p.channels++
	}
	a.channels[number] = channelBinding{peer: peer, permission: p, expires: now.Add(channelLifetime)}
	a.numbers[peer] = number
}
