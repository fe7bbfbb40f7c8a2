package turnsrv

import (
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// createPermission handles a CreatePermission request, RFC 8656 section 10.2: all of its peers or none. r is
// authenticated and a is of the same user. It may name peers of both families to a dual allocation.
func (f *front) createPermission(r *request, a *allocation, now time.Time) []byte {
	if r.malformedPeer || len(r.peers) == 0 {
		return f.refuse(&r.origin, stun.CodeBadRequest)
	}
	for _, peer := range r.peers {
		if a.towards(peer) == nil {
			return f.refuse(&r.origin, stun.CodePeerAddressFamilyMismatch)
		}
	}
	relay := f.server.config.Relay
	for _, peer := range r.peers {
		if rule, ok := relay.MayPermit(peer.Addr()); !ok {
			f.server.logRefusedPeer(peer.Addr(), rule, now)
			return f.refuse(&r.origin, stun.CodeForbidden)
		}
	}
	if !f.hasRoom(a, r.peers, 0, now) {
		return f.refuse(&r.origin, stun.CodeInsufficientCapacity)
	}
	for _, peer := range r.peers {
		a.peers.permit(peer.Addr(), relay.Owns(peer.Addr()), now)
	}
	f.succeed(&r.origin)
	return f.finish(&r.origin)
}

// hasRoom reports whether the allocation has room for permissions for the addresses of all of wanted, and for so many more channels.
func (f *front) hasRoom(a *allocation, wanted []netip.AddrPort, channels int, now time.Time) bool {
	config := &f.server.config
	if a.peers.hasRoom(len(wanted), config.MaxPermissions, channels, config.MaxChannels, now) {
		return true
	}
	missing := make(map[netip.Addr]bool, len(wanted))
	for _, peer := range wanted {
		if a.peers.permissions[peer.Addr()] == nil {
			missing[peer.Addr()] = true
		}
	}
	return a.peers.hasRoom(len(missing), config.MaxPermissions, channels, config.MaxChannels, now)
}
