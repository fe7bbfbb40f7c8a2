package session

import (
	"net/netip"
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

// hasRoom reports whether the allocation has room for permissions for all addresses in wanted and for the given number of
// additional channels.
func (s *Session) hasRoom(a *allocation, wanted []netip.AddrPort, channels int, now time.Time) bool {
	if s.fits(a, len(wanted), channels, now) {
		return true
	}
	missing := make(map[netip.Addr]bool, len(wanted))
	for _, peer := range wanted {
		if a.peers.permissions[peer.Addr()] == nil {
			missing[peer.Addr()] = true
		}
	}
	return s.fits(a, len(missing), channels, now)
}

// Limits on the permissions and channels of all allocations of a server together. Each takes about 150 bytes. The first
// ownEntries of each allocation are not counted, so that every client can have a few.
const (
	maxEntries = 1 << 18
	ownEntries = 32
)

// fits reports whether there is room for the given numbers of additional permissions and channels. If there is not, it first
// removes expired ones.
func (s *Session) fits(a *allocation, permissions, channels int, now time.Time) bool {
	most := s.shared.limits.Load()
	fits := func() bool {
		wanted := permissions + channels
		return len(a.peers.permissions)+permissions <= most.MaxPermissions && len(a.peers.channels)+channels <= most.MaxChannels &&
			(a.peers.len()+wanted <= ownEntries || s.shared.entries.Load()+int64(wanted) <= maxEntries)
	}
	if fits() {
		return true
	}
	if !now.Before(a.peers.sweepAt) {
		a.peers.sweepAt = now.Add(sweepPeriod)
		a.peers.sweep(now)
		s.count(a)
	}
	return fits()
}

// count updates the server's total with the permissions and channels that this allocation has beyond ownEntries.
func (s *Session) count(a *allocation) {
	beyond := max(a.peers.len()-ownEntries, 0)
	s.shared.entries.Add(int64(beyond - a.peers.counted))
	a.peers.counted = beyond
}
