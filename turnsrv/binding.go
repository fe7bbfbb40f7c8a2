package turnsrv

import "github.com/mailturn/mailturn/turnsrv/stun"

// binding answers a Binding request: the server is a STUN server too, RFC 8489 section 2. Nobody has to authenticate.
func (f *front) binding(r *request) []byte {
	if len(r.unknown) > 0 {
		return f.refuseUnknown(&r.origin, r.unknown)
	}
	f.succeed(&r.origin).XORAddress(stun.AttrXORMappedAddress, r.client.tuple.Client)
	return f.finish(&r.origin)
}
