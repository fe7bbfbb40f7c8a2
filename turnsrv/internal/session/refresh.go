package session

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// refresh handles a Refresh request, RFC 8656 section 8.2. r is authenticated and a belongs to the same user. With
// REQUESTED-ADDRESS-FAMILY, the request applies to one relayed address of a dual allocation; without it, to both. An allocation that a
// ban forbids ends: that of Server.Disconnect may have failed, or another process may have made it.
func (s *Session) refresh(r *request, a *allocation, now time.Time) []byte {
	addresses := a.addresses
	if r.requestedFamily != nil {
		family, ok := familyAttribute(r.requestedFamily)
		if !ok {
			return s.refuse(&r.origin, stun.CodeBadRequest)
		}
		address := a.address(family)
		if address == nil {
			return s.refuse(&r.origin, stun.CodePeerAddressFamilyMismatch)
		}
		addresses = []*relayedAddress{address}
	}
	wanted, ok := uint32Attribute(r.lifetime)
	if !ok && r.lifetime != nil {
		return s.refuse(&r.origin, stun.CodeBadRequest)
	}
	var lifetime time.Duration
	if ok && wanted == 0 {
		s.endAddresses(addresses, event.EndedByClient, now)
	} else if s.banned(r, now) {
		s.endAddresses(a.addresses, event.EndedByOperator, now)
		return s.refuse(&r.origin, stun.CodeForbidden)
	} else {
		lifetime = s.clampLifetime(r.lifetime)
		for _, address := range addresses {
			address.expires = now.Sub(s.shared.start) + lifetime
			s.shared.emit(event.Event{
				Kind: event.AllocationRefreshed, Time: now, Tuple: r.client.Tuple, Username: a.username, Subject: a.subject,
				Relayed: address.conn.Relayed(), Lifetime: lifetime,
			})
		}
		s.expiries.schedule(a)
	}
	s.succeed(&r.origin).Uint32(stun.AttrLifetime, seconds(lifetime))
	return s.finish(&r.origin)
}
