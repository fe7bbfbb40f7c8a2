package session

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// lastChannelOf8656 is the last channel number allowed by RFC 8656 section 12.
const lastChannelOf8656 stun.ChannelNumber = 0x4FFF

// channelBind handles a ChannelBind request, RFC 8656 section 12.2. r is authenticated and a belongs to the same user.
func (s *Session) channelBind(r *request, a *allocation, now time.Time) []byte {
	value, ok := uint32Attribute(r.channelNumber)
	number := stun.ChannelNumber(value >> 16)
	if !ok || r.malformedPeer || len(r.peers) == 0 || number < stun.MinChannel || number > s.lastChannel() {
		return s.refuse(&r.origin, stun.CodeBadRequest)
	}
	peer := r.peers[0]
	if peer.Port() == 0 || !a.peers.mayBind(number, peer, now) {
		return s.refuse(&r.origin, stun.CodeBadRequest)
	}
	if a.towards(peer) == nil {
		return s.refuse(&r.origin, stun.CodePeerAddressFamilyMismatch)
	}
	if a.callRefused(now) {
		return s.refuse(&r.origin, stun.CodeInsufficientCapacity)
	}
	relay := s.shared.config.Relay
	if rule, ok := relay.MayReach(peer); !ok {
		s.shared.logRefusedPeer(peer.Addr(), rule, now)
		return s.refuse(&r.origin, stun.CodeForbidden)
	}
	if a.peers.bound(number, now) == nil && !s.hasRoom(a, r.peers[:1], 1, now) {
		return s.refuse(&r.origin, stun.CodeInsufficientCapacity)
	}
	a.peers.bind(number, peer, relay.Owns(peer.Addr()), now)
	s.count(a)
	s.succeed(&r.origin)
	return s.finish(&r.origin)
}

func (s *Session) lastChannel() stun.ChannelNumber {
	if s.shared.config.StrictChannels {
		return lastChannelOf8656
	}
	return stun.MaxChannel
}
