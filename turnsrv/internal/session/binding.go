package session

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// binding answers a Binding request, RFC 8489 section 2. It requires no authentication.
func (s *Session) binding(r *request, now time.Time) []byte {
	if len(r.unknown) > 0 {
		return s.refuseUnknown(r, now)
	}
	s.succeed(&r.origin).XORAddress(stun.AttrXORMappedAddress, r.client.Tuple.Client)
	return s.finish(&r.origin)
}
