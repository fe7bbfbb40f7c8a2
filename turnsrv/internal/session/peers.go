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

	// sweepPeriod is how often a full table is searched for entries that have expired.
	sweepPeriod = time.Second
)

// peers are the permissions and channels of an allocation. Only the goroutine of the session changes them, and it reads them without
// the lock. What it does for a request or a packet takes constant time,
// apart from the search of a full table and of the channels to one address.
type peers struct {
	mu          sync.RWMutex // guards the maps and expiry times against readers on other goroutines
	permissions map[netip.Addr]*permission
	channels    map[stun.ChannelNumber]*channelBinding

	sweepAt time.Time // not before
	counted int       // of the server's entries
}

// permission is one peer address that may send to the client, RFC 8656 section 9, and what went to it before it answered.
type permission struct {
	expires  time.Time
	channels []*channelBinding // to ports of the address, mostly one; they may outlive expires
	heard    atomic.Bool       // something came from the peer

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
	permission *permission // of the peer's address, which may expire first: see reachable
	expires    time.Time
}

func (c *channelBinding) live(now time.Time) bool { return c != nil && now.Before(c.expires) }

// reachable returns what is known of the address of peer if the client may send to peer and hear from it, and nil otherwise:
// there is a permission for the address (RFC 8656 section 9), or a channel is bound to peer itself. number is that channel's,
// if bound is true. Safe for concurrent use.
//
// ChannelBind installs a permission of 5 minutes and a channel of 10. Clients such as aioice bind again before the channel
// expires and send no CreatePermission in between. RFC 8656 section 12.6 asks for no permission from client to peer, so the
// channel vouches for its own peer address; other ports of the host end with the permission.
func (p *peers) reachable(peer netip.AddrPort, now time.Time) (known *permission, number stun.ChannelNumber, bound bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if known = p.permissions[peer.Addr()]; known == nil {
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

// bound returns the channel of that number, or nil if there is none.
func (p *peers) bound(number stun.ChannelNumber, now time.Time) *channelBinding {
	if c := p.channels[number]; c.live(now) {
		return c
	}
	return nil
}

// len returns how many permissions and channels there are, expired ones included.
func (p *peers) len() int { return len(p.permissions) + len(p.channels) }

// mayBind reports whether neither number is bound to another peer nor peer to another number.
func (p *peers) mayBind(number stun.ChannelNumber, peer netip.AddrPort, now time.Time) bool {
	if c := p.channels[number]; c.live(now) && c.peer != peer {
		return false
	}
	known := p.permissions[peer.Addr()]
	if known == nil {
		return true
	}
	c := known.to(peer)
	return !c.live(now) || c.number == number
}

// permit makes or refreshes a permission. heard says that the peer need not answer first.
func (p *peers) permit(addr netip.Addr, heard bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.permitLocked(addr, heard, now)
}

func (p *peers) permitLocked(addr netip.Addr, heard bool, now time.Time) *permission {
	known := p.permissions[addr]
	if known == nil {
		known = new(permission)
		known.heard.Store(heard)
		if p.permissions == nil {
			p.permissions = make(map[netip.Addr]*permission)
		}
		p.permissions[addr] = known
	}
	known.expires = now.Add(PermissionLifetime)
	return known
}

// bind makes or refreshes a channel, and the permission for its peer's address with it. The caller has asked mayBind.
func (p *peers) bind(number stun.ChannelNumber, peer netip.AddrPort, heard bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.permitLocked(peer.Addr(), heard, now)
	c := p.channels[number]
	if c == nil || c.peer != peer {
		p.unbindLocked(c)
		p.unbindLocked(known.to(peer))
		if p.channels == nil {
			p.channels = make(map[stun.ChannelNumber]*channelBinding)
		}
		c = &channelBinding{number: number, peer: peer, permission: known}
		p.channels[number] = c
		known.channels = append(known.channels, c)
	}
	c.expires = now.Add(ChannelLifetime)
}

// unbindLocked removes a channel, if c is one.
func (p *peers) unbindLocked(c *channelBinding) {
	if c == nil {
		return
	}
	delete(p.channels, c.number)
	c.permission.channels = slices.DeleteFunc(c.permission.channels, func(other *channelBinding) bool { return other == c })
}

// forget removes what needs the relayed address of a family, which has ended.
func (p *peers) forget(family stun.Family) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.channels {
		if stun.FamilyOf(c.peer.Addr()) == family {
			p.unbindLocked(c)
		}
	}
	for addr := range p.permissions {
		if stun.FamilyOf(addr) == family {
			delete(p.permissions, addr)
		}
	}
}

// sweep removes the permissions and channels that have expired.
func (p *peers) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.channels {
		if !c.live(now) {
			p.unbindLocked(c)
		}
	}
	for addr, known := range p.permissions {
		if !now.Before(known.expires) && len(known.channels) == 0 {
			delete(p.permissions, addr)
		}
	}
}
