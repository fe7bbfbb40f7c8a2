package session

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// refuseDraining refuses an Allocate request because the server drains. If another server is known that the client can reach, the
// response names it, RFC 8489 section 10.
func (s *Session) refuseDraining(r *request, now time.Time) []byte {
	tuple := r.client.Tuple
	if s.shared.config.Alternate != nil {
		server, domain, ok := s.shared.config.Alternate(r.subject.Name, tuple)
		if ok && server.Addr().Is4() == tuple.Client.Addr().Is4() { // section 14.15
			s.emitRefused(&r.origin, stun.CodeTryAlternate, event.RefusedDraining, now)
			s.startError(&r.origin, stun.CodeTryAlternate)
			s.out.Address(stun.AttrAlternateServer, server)
			if domain != "" && tuple.Transport.Encrypted() {
				s.out.Text(stun.AttrAlternateDomain, domain)
			}
			return s.finish(&r.origin)
		}
	}
	return s.refuseAllocate(r, stun.CodeInsufficientCapacity, event.RefusedDraining, now)
}
