package session

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

const (
	PermissionLifetime = 5 * time.Minute  // RFC 8656 section 9
	ChannelLifetime    = 10 * time.Minute // RFC 8656 section 12

	// sweepPeriod is the minimum interval between searches of a full table for expired entries.
	sweepPeriod = time.Second
)

// peers holds the permissions and channel bindings of an allocation. Only the goroutine of the session modifies them, so it
// reads them without the lock. All operations take constant time, except the sweep of a full table and the search of the
// channels bound to one address.
type peers struct {
	mu          sync.Mutex // guards the tables and expiry times; writers hold it, and readers on other goroutines
	permissions table[netip.Addr, permission]
	channels    table[stun.ChannelNumber, channelBinding]

	sweepAt time.Duration // earliest time of the next sweep, since Shared.start
	counted int           // entries included in Shared.entries
}

// permission is a permission for one peer address, RFC 8656 section 9, with the amount of data sent to it before it answered.
type permission struct {
	expires  time.Time
	channels []*channelBinding // to ports of this address, mostly one; they may outlive expires
	heard    atomic.Bool       // the peer has sent something

	silent silentSpending // owned by the goroutine of the session
}

// to returns the channel that is bound to peer, which has the permission's address, or nil if there is none.
func (p *permission) to(peer netip.AddrPort) *channelBinding {
	for _, c := range p.channels {
		if c.peer.Port() == peer.Port() {
			return c
		}
	}
	return nil
}

// channelBinding binds a channel number to a peer, RFC 8656 section 12.
type channelBinding struct {
	number     stun.ChannelNumber
	peer       netip.AddrPort
	permission *permission // for the peer's address; it may expire first: see reachable
	expires    time.Time

	offloaded *offloaded // nil unless the kernel relays it; owned by the goroutine of the session
	offloadAt time.Time  // earliest time of the next attempt; owned by the goroutine of the session
}

func (c *channelBinding) live(now time.Time) bool { return c != nil && now.Before(c.expires) }

// reachable returns the permission for the address of peer if the client may exchange data with peer, and nil otherwise. It
// requires a permission that has not expired (RFC 8656 section 9), or a channel bound to peer. If bound is true, number is that
// channel's number. It is called on the goroutine of the session: see allocation.reachable.
//
// ChannelBind installs a permission for 5 minutes and a channel for 10. Clients such as aioice rebind before the channel
// expires and send no CreatePermission in between. RFC 8656 section 12.6 requires no permission in the direction from client to
// peer. Therefore a bound channel allows its own peer; other ports of that address require the permission.
func (p *peers) reachable(peer netip.AddrPort, now time.Time) (known *permission, number stun.ChannelNumber, bound bool) {
	if known = p.permissions.get(peer.Addr()); known == nil {
		return nil, 0, false
	}
	if c := known.to(peer); c.live(now) {
		return known, c.number, true
	}
	if now.Before(known.expires) {
		return known, 0, false
	}
	return nil, 0, false
}

// reachable is like peers.reachable. It is called where packets from peers arrive, which is on another goroutine than that of the session
// unless an event loop runs both.
func (a *allocation) reachable(peer netip.AddrPort, now time.Time) (known *permission, number stun.ChannelNumber, bound bool) {
	if a.session.loop == nil {
		a.peers.mu.Lock()
		defer a.peers.mu.Unlock()
	}
	return a.peers.reachable(peer, now)
}

// bound returns the binding of a channel number, or nil if the channel is not bound.
func (p *peers) bound(number stun.ChannelNumber, now time.Time) *channelBinding {
	if c := p.channels.get(number); c.live(now) {
		return c
	}
	return nil
}

// len returns the number of permissions and channels, including expired ones.
func (p *peers) len() int { return p.permissions.len() + p.channels.len() }

// mayBind reports whether number is not bound to another peer and peer is not bound to another number.
func (p *peers) mayBind(number stun.ChannelNumber, peer netip.AddrPort, now time.Time) bool {
	if c := p.channels.get(number); c.live(now) && c.peer != peer {
		return false
	}
	known := p.permissions.get(peer.Addr())
	if known == nil {
		return true
	}
	c := known.to(peer)
	return !c.live(now) || c.number == number
}

// permit creates or refreshes a permission. If heard is true, the peer is treated as having answered.
func (p *peers) permit(addr netip.Addr, heard bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.permitLocked(addr, heard, now)
}

func (p *peers) permitLocked(addr netip.Addr, heard bool, now time.Time) *permission {
	known := p.permissions.get(addr)
	if known == nil {
		known = new(permission)
		known.heard.Store(heard)
		p.permissions.add(addr, known)
	}
	known.expires = now.Add(PermissionLifetime)
	return known
}

// bind creates or refreshes a channel binding and the permission for its peer's address. The caller has checked mayBind.
func (p *peers) bind(number stun.ChannelNumber, peer netip.AddrPort, heard bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.permitLocked(peer.Addr(), heard, now)
	c := p.channels.get(number)
	if c == nil || c.peer != peer {
		p.unbindLocked(c, now)
		p.unbindLocked(known.to(peer), now)
		c = &channelBinding{number: number, peer: peer, permission: known}
		p.channels.add(number, c)
		known.channels = append(known.channels, c)
	}
	c.expires = now.Add(ChannelLifetime)
	if c.offloaded != nil {
		c.offloaded.channel.Extend(c.until(c.offloaded.address, now), now)
	}
}

// unbindLocked removes the channel binding c, unless it is nil.
func (p *peers) unbindLocked(c *channelBinding, now time.Time) {
	if c == nil {
		return
	}
	c.endOffload(now)
	p.channels.remove(c.number)
	c.permission.channels = slices.DeleteFunc(c.permission.channels, func(other *channelBinding) bool { return other == c })
}

// forget removes the permissions and channels of a family whose relayed address has ended.
func (p *peers) forget(family stun.Family, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.channels.all() {
		if stun.FamilyOf(c.peer.Addr()) == family {
			p.unbindLocked(c, now)
		}
	}
	for addr := range p.permissions.all() {
		if stun.FamilyOf(addr) == family {
			p.permissions.remove(addr)
		}
	}
}

// sweep removes expired permissions and channels.
func (p *peers) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.channels.all() {
		if !c.live(now) {
			p.unbindLocked(c, now)
		}
	}
	for addr, known := range p.permissions.all() {
		if !now.Before(known.expires) && len(known.channels) == 0 {
			p.permissions.remove(addr)
		}
	}
}
