package turnsrv

import (
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// refresh handles a Refresh request, RFC 8656 section 8.2. r is authenticated and a is of the same user. With
// REQUESTED-ADDRESS-FAMILY it is about that half of a dual allocation, without it about both.
func (f *front) refresh(r *request, a *allocation, now time.Time) []byte {
	relays := slices.Collect(a.relays())
	if r.requestedFamily != nil {
		family, ok := familyAttribute(r.requestedFamily)
		if !ok {
			return f.refuse(&r.origin, stun.CodeBadRequest)
		}
		relays = slices.DeleteFunc(relays, func(relay *allocation) bool { return relay.family != family })
		if len(relays) == 0 {
			return f.refuse(&r.origin, stun.CodePeerAddressFamilyMismatch)
		}
	}
	wanted, ok := uint32Attribute(r.lifetime)
	if !ok && r.lifetime != nil {
		return f.refuse(&r.origin, stun.CodeBadRequest)
	}
	o, last := r.origin, len(relays)-1
	if ok && wanted == 0 {
		for _, relay := range relays[:last] {
			f.end(relay, EndedByClient, nil)
		}
		f.end(relays[last], EndedByClient, func() []byte { return f.refreshed(&o, 0) })
		return nil
	}
	lifetime := f.clampLifetime(r.lifetime)
	for _, relay := range relays {
		relay.expires = now.Add(lifetime) // the janitor sees to pion's timer
		f.server.emit(Event{
			Kind: AllocationRefreshed, Time: now, Tuple: o.client.tuple, Username: relay.username, Subject: relay.subject,
			Relayed: relay.relay.Relayed(), Lifetime: lifetime,
		})
	}
	return f.refreshed(&o, lifetime)
}

func (f *front) refreshed(o *origin, lifetime time.Duration) []byte {
	f.succeed(o).Uint32(stun.AttrLifetime, seconds(lifetime))
	return f.finish(o)
}
