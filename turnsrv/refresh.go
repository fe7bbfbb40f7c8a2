package turnsrv

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// refresh handles a Refresh request, RFC 8656 section 8.2. r is authenticated and a is of the same user.
func (f *front) refresh(r *request, a *allocation, now time.Time) []byte {
	if r.requestedFamily != nil {
		if family, ok := familyAttribute(r.requestedFamily); !ok {
			return f.refuse(&r.origin, stun.CodeBadRequest)
		} else if family != a.family {
			return f.refuse(&r.origin, stun.CodePeerAddressFamilyMismatch)
		}
	}
	o := r.origin
	if wanted, ok := uint32Attribute(r.lifetime); ok && wanted == 0 {
		f.end(a, "client", func() []byte { return f.refreshed(&o, 0) })
		return nil
	} else if !ok && r.lifetime != nil {
		return f.refuse(&r.origin, stun.CodeBadRequest)
	}
	lifetime := f.clampLifetime(r.lifetime)
	f.order(order{method: stun.MethodRefresh, allocation: a, lifetime: pionLifetime, done: func(ok bool) []byte {
		if !ok {
			return f.refuse(&o, stun.CodeServerError)
		}
		a.expires, a.pionExpires = now.Add(lifetime), now.Add(pionLifetime)
		f.server.emit(Event{
			Kind: AllocationRefreshed, Time: now, Tuple: o.client.tuple, Username: a.username,
			Relayed: a.relay.Relayed(), Lifetime: lifetime,
		})
		return f.refreshed(&o, lifetime)
	}})
	return nil
}

func (f *front) refreshed(o *origin, lifetime time.Duration) []byte {
	f.succeed(o).Uint32(stun.AttrLifetime, seconds(lifetime))
	return f.finish(o)
}
