package session

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
)

// sendIndication relays the data of a Send indication, RFC 8656 section 11.2. Indications have no response; invalid ones are
// counted.
func (s *Session) sendIndication(r *request, a *allocation, now time.Time) {
	if a == nil {
		s.drop(event.DropNoAllocation, r.client, now)
		return
	}
	if r.malformedPeer || len(r.peers) == 0 || r.data == nil || len(r.unknown) > 0 {
		s.drop(event.DropMalformed, r.client, now)
		return
	}
	peer := r.peers[0]
	address := a.towards(peer)
	if address == nil {
		a.addresses[0].drop(event.DropNoPermission, peer, nil)
		return
	}
	p, _, _ := a.peers.reachable(peer, now)
	address.send(r.data, peer, p, r.dontFragment != nil, now)
}
