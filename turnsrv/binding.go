package turnsrv

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// binding answers a Binding request: the server is a STUN server too, RFC 8489 section 2. Nobody has to authenticate.
func (f *front) binding(r *request, now time.Time) []byte {
	if len(r.unknown) > 0 {
		return f.refuseUnknown(r, now)
	}
	f.succeed(&r.origin).XORAddress(stun.AttrXORMappedAddress, r.client.tuple.Client)
	return f.finish(&r.origin)
}
