package turnsrv

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// maxAmplification is how many bytes more than the request an answer to it may have while nobody has shown that the
// sender is at that address: 28 bytes, the smallest Allocate request, draw at most 72.
const maxAmplification = 44

// succeed begins a success response.
func (f *front) succeed(o *origin) *stun.Builder {
	f.out.Start(o.method, stun.ClassSuccess, o.id)
	return &f.out
}

// finish signs the response that was begun, under the key of its request, and returns it. It is valid until the next one.
func (f *front) finish(o *origin) []byte {
	if o.key != nil {
		if software := f.shared.config.Software; software != "" {
			f.out.Text(stun.AttrSoftware, software)
		}
		f.out.MessageIntegrity(o.key)
	}
	if o.fingerprint {
		f.out.Fingerprint()
	}
	return f.out.Bytes()
}

// refuse builds an error response. It is signed if its request was authenticated, RFC 8489 section 9.2.4.
func (f *front) refuse(o *origin, code stun.ErrorCode) []byte {
	f.startError(o, code, code.Reason())
	return f.finish(o)
}

// refuseUnknown builds the 420 that names r.unknown as not understood, RFC 8489 section 6.3.1.
func (f *front) refuseUnknown(r *request, now time.Time) []byte {
	if r.method == stun.MethodAllocate {
		f.emitRefused(&r.origin, stun.CodeUnknownAttribute, RefusedAttributes, now)
	}
	f.startError(&r.origin, stun.CodeUnknownAttribute, stun.CodeUnknownAttribute.Reason())
	f.out.UnknownAttributes(r.unknown)
	return f.finish(&r.origin)
}

// challenge builds a 401 or 438 with the realm and a nonce, RFC 8489 section 9.2.4, signed if r.origin has a key. The reason phrase is for people who
// read traces: it goes when the answer would be too big for what was asked.
func (f *front) challenge(r *request, code stun.ErrorCode, now time.Time) []byte {
	o := &r.origin
	for _, reason := range [...]string{code.Reason(), ""} {
		f.out.Start(o.method, stun.ClassError, o.id)
		f.out.ErrorCode(code, reason)
		f.out.Text(stun.AttrRealm, f.shared.realm(r))
		var nonce [32]byte
		f.out.Attr(stun.AttrNonce, f.shared.nonces.appendNonce(nonce[:0], o.client.tuple, now))
		if f.finish(o); o.key != nil || f.out.Len() <= o.size+maxAmplification {
			break
		}
	}
	f.shared.counters.respond(o.method, code)
	return f.out.Bytes()
}

func (f *front) startError(o *origin, code stun.ErrorCode, reason string) {
	f.out.Start(o.method, stun.ClassError, o.id)
	f.out.ErrorCode(code, reason)
	f.shared.counters.respond(o.method, code)
	if o.key != nil {
		f.shared.logRefusal(o, code, o.received)
	}
}
