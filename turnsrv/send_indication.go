package turnsrv

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// sendIndication handles a Send indication, RFC 8656 section 11.2, and returns what pion gets instead, and for
// which relayed address. Indications are never answered; what is wrong with one is counted.
func (f *front) sendIndication(r *request, a *allocation, now time.Time) ([]byte, *allocation) {
	switch {
	case a == nil:
		return f.drop(DropNoAllocation), nil
	case r.malformedPeer || len(r.peers) == 0 || r.data == nil || len(r.unknown) > 0:
		return f.drop(DropMalformed), nil
	}
	if a = a.towards(r.peers[0]); a == nil {
		return f.drop(DropNoPermission), nil
	}
	p := a.permission(r.peers[0].Addr(), now)
	switch {
	case p == nil:
		return f.drop(DropNoPermission), nil
	case !p.mayGo(len(r.data), f.server.config.SilentPeerBytes, now):
		return f.drop(DropSilentPeer), nil
	case !f.server.bandwidth(&a.bandwidths.toPeer, &f.server.total.toPeer, len(r.data), now):
		return nil, nil
	}
	a.relay.DontFragment(r.dontFragment != nil)
	f.inner.Start(stun.MethodSend, stun.ClassIndication, r.id)
	f.inner.XORAddress(stun.AttrXORPeerAddress, r.peers[0])
	f.inner.Attr(stun.AttrData, r.data)
	return f.inner.Bytes(), a
}
