package turnsrv

import (
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// permissionLifetime is fixed, RFC 8656 section 9.
const permissionLifetime = 5 * time.Minute

// createPermission handles a CreatePermission request, RFC 8656 section 10.2: all of its peers or none. r is
// authenticated and a is of the same user. It may name peers of both families to a dual allocation.
//
// pion is not told: what it would look up is in a.permissions, and it keeps room for 64 permissions of an allocation, 4 KB,
// when most of the relayed addresses that ICE gathers never carry a packet.
func (f *front) createPermission(r *request, a *allocation, now time.Time) []byte {
	if r.malformedPeer || len(r.peers) == 0 {
		return f.refuse(&r.origin, stun.CodeBadRequest)
	}
	for _, peer := range r.peers {
		if a.towards(peer) == nil {
			return f.refuse(&r.origin, stun.CodePeerAddressFamilyMismatch)
		}
	}
	for _, peer := range r.peers {
		if rule, ok := f.server.config.Relay.MayPermit(peer.Addr()); !ok {
			f.server.logRefusedPeer(peer.Addr(), rule, now)
			return f.refuse(&r.origin, stun.CodeForbidden)
		}
	}
	for relay := range a.relays() {
		relay.forget(now)
		if !relay.roomForPermissions(r.peers, f.server.config.MaxPermissions) {
			return f.refuse(&r.origin, stun.CodeInsufficientCapacity)
		}
	}
	for _, peer := range r.peers {
		a.towards(peer).permit(peer.Addr(), now)
	}
	f.succeed(&r.origin)
	return f.finish(&r.origin)
}

// permit makes or refreshes a permission.
func (a *allocation) permit(addr netip.Addr, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.permitLocked(addr, now)
}

func (a *allocation) permitLocked(addr netip.Addr, now time.Time) *permission {
	p := a.permissions[addr]
	if p == nil {
		p = new(permission)
		// Where a relayed address of ours is the peer, its client has to permit what comes.
		p.heard.Store(a.front.server.config.Relay.Owns(addr))
		a.permissions[addr] = p
	}
	p.expires = now.Add(permissionLifetime)
	return p
}

// roomForPermissions reports whether all of peers that are of the family can have one.
func (a *allocation) roomForPermissions(peers []netip.AddrPort, limit int) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if len(a.permissions)+len(peers) <= limit {
		return true
	}
	wanted := make(map[netip.Addr]bool, len(peers))
	for _, peer := range peers {
		if _, has := a.permissions[peer.Addr()]; !has && a.towards(peer) == a {
			wanted[peer.Addr()] = true
		}
	}
	return len(a.permissions)+len(wanted) <= limit
}
