package session

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// maxAmplification limits by how many bytes a response may exceed its request while the client's address is unverified. The
// smallest Allocate request has 28 bytes and gets at most 72.
const maxAmplification = 44

// succeed begins a success response.
func (s *Session) succeed(o *origin) *stun.Builder {
	s.out.Start(o.method, stun.ClassSuccess, o.id)
	return &s.out
}

// finish signs the response with the key of its request and returns it. The result is valid until the next response.
func (s *Session) finish(o *origin) []byte {
	if o.key != nil {
		if software := s.shared.config.Software; software != "" {
			s.out.Text(stun.AttrSoftware, software)
		}
		s.out.MessageIntegrity(o.key)
	}
	if o.fingerprint {
		s.out.Fingerprint()
	}
	return s.out.Bytes()
}

// refuse builds an error response. It is signed if the request was authenticated, RFC 8489 section 9.2.4.
func (s *Session) refuse(o *origin, code stun.ErrorCode) []byte {
	s.startError(o, code)
	return s.finish(o)
}

// refuseUnknown builds the 420 response that lists the attributes in r.unknown, RFC 8489 section 6.3.1.
func (s *Session) refuseUnknown(r *request, now time.Time) []byte {
	if r.method == stun.MethodAllocate {
		s.emitRefused(&r.origin, stun.CodeUnknownAttribute, event.RefusedAttributes, now)
	}
	s.startError(&r.origin, stun.CodeUnknownAttribute)
	s.out.UnknownAttributes(r.unknown)
	return s.finish(&r.origin)
}

// challenge builds a 401 or 438 response with the realm and a nonce, RFC 8489 section 9.2.4. It is signed if r.origin has a
// key. The reason phrase helps people who read packet captures. It is omitted if the response would otherwise exceed
// maxAmplification.
func (s *Session) challenge(r *request, code stun.ErrorCode, now time.Time) []byte {
	o := &r.origin
	for _, reason := range [...]string{code.Reason(), ""} {
		s.out.Start(o.method, stun.ClassError, o.id)
		s.out.ErrorCode(code, reason)
		s.out.Text(stun.AttrRealm, s.shared.realm(r))
		var nonce [32]byte
		s.out.Attr(stun.AttrNonce, s.shared.nonces.appendNonce(nonce[:0], o.client.Tuple, now))
		if s.finish(o); o.key != nil || s.out.Len() <= o.size+maxAmplification {
			break
		}
	}
	s.shared.Counters.Respond(o.method, code)
	return s.out.Bytes()
}

func (s *Session) startError(o *origin, code stun.ErrorCode) {
	s.out.Start(o.method, stun.ClassError, o.id)
	s.out.ErrorCode(code, code.Reason())
	s.shared.Counters.Respond(o.method, code)
	if o.key != nil {
		s.shared.logRefusal(o, code, o.received)
	}
}
