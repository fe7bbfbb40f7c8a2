package session

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// createPermission handles a CreatePermission request, RFC 8656 section 10.2. It installs permissions for all of the peers or
// for none. r is authenticated and a belongs to the same user. For a dual allocation, the peers may be of both families.
func (s *Session) createPermission(r *request, a *allocation, now time.Time) []byte {
	if r.malformedPeer || len(r.peers) == 0 {
		return s.refuse(&r.origin, stun.CodeBadRequest)
	}
	for _, peer := range r.peers {
		if a.towards(peer) == nil {
			return s.refuse(&r.origin, stun.CodePeerAddressFamilyMismatch)
		}
	}
	if a.callRefused(now) {
		return s.refuse(&r.origin, stun.CodeInsufficientCapacity)
	}
	relay := s.shared.config.Relay
	for _, peer := range r.peers {
		if rule, ok := relay.MayPermit(peer.Addr()); !ok {
			s.shared.logRefusedPeer(peer.Addr(), rule, now)
			return s.refuse(&r.origin, stun.CodeForbidden)
		}
	}
	if !s.hasRoom(a, r.peers, 0, now) {
		return s.refuse(&r.origin, stun.CodeInsufficientCapacity)
	}
	for _, peer := range r.peers {
		a.peers.permit(peer.Addr(), relay.Owns(peer.Addr()), now)
	}
	s.count(a)
	s.succeed(&r.origin)
	return s.finish(&r.origin)
}
