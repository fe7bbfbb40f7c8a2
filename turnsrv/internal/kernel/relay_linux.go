//go:build amd64 || arm64

package kernel

import (
	"net/netip"
	"time"
)

// Relay attaches the program to the interfaces over which the packets of a channel go, and adds the channel. It sets the routes of
// b, and the address of b.Relay if that is unspecified. The error is one of RouteTo, Attach or Add.
func (p *Path) Relay(b Binding, now time.Time) (*Channel, error) {
	before := p.routes.generation()
	var err error
	if b.ToClient, _, err = p.routes.to(b.Client.Addr(), b.Server.Addr(), now); err != nil {
		return nil, err
	}
	if _, err = p.Attach(b.ToClient.Interface); err != nil {
		return nil, err
	}
	if !b.Local {
		var from netip.Addr
		if b.ToPeer, from, err = p.routes.to(b.Peer.Addr(), b.Relay.Addr(), now); err != nil {
			return nil, err
		}
		if _, err = p.Attach(b.ToPeer.Interface); err != nil {
			return nil, err
		}
		b.Relay = netip.AddrPortFrom(from, b.Relay.Port())
	}
	c, err := p.Add(b, now)
	if err == nil && p.routes.generation() != before { // the recheck in between may not have seen it
		p.recheckChannels([]*Channel{c})
	}
	return c, err
}

// way is from where to where packets leave, and over which route.
type way struct {
	from, to netip.Addr
	route    Route
}

// ways returns how the packets of b leave.
func (b *Binding) ways() []way {
	ways := []way{{b.Server.Addr(), b.Client.Addr(), b.ToClient}}
	if !b.Local {
		ways = append(ways, way{b.Relay.Addr(), b.Peer.Addr(), b.ToPeer})
	}
	return ways
}
