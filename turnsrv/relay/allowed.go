package relay

import (
	"net/netip"

	"github.com/mailturn/mailturn/turnsrv/peer"
)

// allowed remembers the last peer on another host to which a policy allowed sending. The policy searches all its networks, and
// consecutive packets mostly have the same peer.
type allowed struct {
	by *peer.Policy
	to netip.AddrPort
}

// route is like Allocator.route. It does not remember addresses of the relay, whose relayed addresses come and go.
func (l *allowed) route(a *Allocator, to netip.AddrPort) (own *Conn, rule string, ok bool) {
	peers := a.peers.Load()
	if l.by == peers && l.to == to {
		return nil, "", true
	}
	if own, rule, ok = a.route(to); ok && !a.Owns(to.Addr()) {
		*l = allowed{peers, to}
	}
	return own, rule, ok
}
