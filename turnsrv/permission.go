package turnsrv

import (
	"net/netip"
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// permissionLifetime is fixed, RFC 8656 section 9. pion's timer has the same.
const permissionLifetime = 5 * time.Minute

// createPermission handles a CreatePermission request, RFC 8656 section 10.2: all of its peers or none. r is
// authenticated and a is of the same user.
func (f *front) createPermission(r *request, a *allocation, now time.Time) []byte {
	if r.malformedPeer || len(r.peers) == 0 {
		return f.refuse(&r.origin, stun.CodeBadRequest)
	}
	// A request may name peers of both families to a dual allocation.
	type share struct {
		relay *allocation
		peers []netip.AddrPort
	}
	var shares []share
	named := 0
	for relay := range a.relays() {
		others := func(peer netip.AddrPort) bool { return a.towards(peer) != relay }
		if peers := slices.DeleteFunc(slices.Clone(r.peers), others); len(peers) > 0 {
			shares = append(shares, share{relay, peers})
			named += len(peers)
		}
	}
	if named < len(r.peers) {
		return f.refuse(&r.origin, stun.CodePeerAddressFamilyMismatch)
	}
	for _, peer := range r.peers {
		if rule, ok := f.server.config.Relay.MayPermit(peer.Addr()); !ok {
			f.server.logRefusedPeer(peer.Addr(), rule, now)
			return f.refuse(&r.origin, stun.CodeForbidden)
		}
	}
	for _, s := range shares {
		if !s.relay.roomForPermissions(s.peers, f.server.config.MaxPermissions) {
			return f.refuse(&r.origin, stun.CodeInsufficientCapacity)
		}
	}
	o, last, failed := r.origin, len(shares)-1, false
	for i, s := range shares {
		f.order(order{method: stun.MethodCreatePermission, allocation: s.relay, peers: s.peers, done: func(ok bool) []byte {
			if ok {
				for _, peer := range s.peers {
					s.relay.permit(peer.Addr(), now)
				}
			}
			failed = failed || !ok
			switch {
			case i < last:
				return nil
			case failed:
				return f.refuse(&o, stun.CodeServerError)
			}
			f.succeed(&o)
			return f.finish(&o)
		}})
	}
	return nil
}

// permit makes or refreshes a permission.
func (a *allocation) permit(addr netip.Addr, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.permissions[addr]
	if p == nil {
		p = new(permission)
		// Where a relayed address of ours is the peer, its client has to permit what comes.
		p.heard.Store(a.front.server.config.Relay.Owns(addr))
		a.permissions[addr] = p
	}
	p.expires = now.Add(permissionLifetime)
}

// roomForPermissions reports whether all of peers can have one.
func (a *allocation) roomForPermissions(peers []netip.AddrPort, limit int) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	wanted := len(a.permissions)
	if wanted+len(peers) <= limit {
		return true
	}
	for i, peer := range peers {
		_, has := a.permissions[peer.Addr()]
		repeated := slices.ContainsFunc(peers[:i], func(p netip.AddrPort) bool { return p.Addr() == peer.Addr() })
		if !has && !repeated {
			wanted++
		}
	}
	return wanted <= limit
}

// permissionGone is called when pion's timer has taken a permission away. It is the end of ours too, unless the client
// refreshed it while pion's timer was already running off: then pion gets it again.
func (f *front) permissionGone(a *allocation, addr netip.Addr, now time.Time) {
	if a.permission(addr, now) != nil {
		f.order(order{method: stun.MethodCreatePermission, allocation: a, peers: []netip.AddrPort{netip.AddrPortFrom(addr, 0)}})
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.permissions, addr)
}
