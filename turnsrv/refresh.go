package turnsrv

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// refresh handles a Refresh request, RFC 8656 section 8.2. r is authenticated and a is of the same user. With
// REQUESTED-ADDRESS-FAMILY it is about that relayed address of a dual allocation, without it about both.
func (f *front) refresh(r *request, a *allocation, now time.Time) []byte {
	addresses := a.addresses
	if r.requestedFamily != nil {
		family, ok := familyAttribute(r.requestedFamily)
		if !ok {
			return f.refuse(&r.origin, stun.CodeBadRequest)
		}
		address := a.address(family)
		if address == nil {
			return f.refuse(&r.origin, stun.CodePeerAddressFamilyMismatch)
		}
		addresses = []*relayedAddress{address}
	}
	wanted, ok := uint32Attribute(r.lifetime)
	if !ok && r.lifetime != nil {
		return f.refuse(&r.origin, stun.CodeBadRequest)
	}
	var lifetime time.Duration
	if ok && wanted == 0 {
		f.endAddresses(addresses, EndedByClient, now)
	} else {
		lifetime = f.clampLifetime(r.lifetime)
		for _, address := range addresses {
			address.expires = now.Add(lifetime)
			f.shared.emit(Event{
				Kind: AllocationRefreshed, Time: now, Tuple: r.client.tuple, Username: a.username, Subject: a.subject,
				Relayed: address.conn.Relayed(), Lifetime: lifetime,
			})
		}
	}
	f.succeed(&r.origin).Uint32(stun.AttrLifetime, seconds(lifetime))
	return f.finish(&r.origin)
}
