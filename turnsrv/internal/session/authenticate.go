package session

import (
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// What one allocation may ask for: signed requests a second, and as many at once. An agent that checks a hundred candidates asks
// for a hundred permissions and channels in its first seconds. Beyond it there is no answer, so that the client asks again.
const (
	maxRequestRate = 64
	maxRequests    = 512
)

// maxUsernameLen is the most that RFC 8489 section 14.3 allows.
const maxUsernameLen = 508

// authenticate verifies a request by the long-term credential mechanism, RFC 8489 section 9.2.4. a is the allocation of
// the client's 5-tuple, or nil. If ok is true, the key, username and subject of r.origin are set. Otherwise the request is
// refused with answer, or with nothing if answer is nil.
//
// The nonce is looked at before the password, against the order of the section: a request that was not provoked by an
// answer of ours to that very address then costs one short MAC, and guesses at a password only count from a real address.
// A client that has both wrong learns it one round trip later.
func (s *Session) authenticate(r *request, a *allocation, now time.Time) (grant credential.Grant, answer []byte, ok bool) {
	if !r.message.HasIntegrity() {
		if !s.mayAnswer(r, now) {
			return grant, nil, false
		}
		return grant, s.challenge(r, stun.CodeUnauthenticated, now), false
	}
	if r.username == nil || r.realm == nil || r.nonce == nil {
		if !s.mayAnswer(r, now) {
			return grant, nil, false
		}
		return grant, s.refuse(&r.origin, stun.CodeBadRequest), false
	}
	if !s.shared.nonces.valid(r.nonce, r.client.Tuple, now) {
		return grant, s.renewNonce(r, a, now), false
	}
	if a != nil && !a.requests.Take(1, maxRequestRate, maxRequests, now.Sub(s.shared.start)) {
		a.addresses[0].drop(event.DropRequestRate, netip.AddrPort{}, nil)
		return grant, nil, false
	}
	grant, key := s.verify(r, a, now)
	if key.Value == nil && !s.shared.guesses.mayRefuse(r, now) {
		s.drop(event.DropGuess, r.client, now)
		return grant, nil, false
	}
	reason, ok := judge(grant, key, now)
	if !ok {
		if r.method == stun.MethodAllocate && len(r.username) <= maxUsernameLen {
			r.origin.username, r.origin.subject = string(r.username), key.Subject
			s.emitRefused(&r.origin, stun.CodeUnauthenticated, reason, now)
		}
		if reason == event.RefusedFarExpiry {
			s.shared.logFarExpiry(grant.Expires, now)
		}
		return grant, s.challenge(r, stun.CodeUnauthenticated, now), false
	}
	r.origin.key, r.origin.username, r.origin.subject = key.Value, string(r.username), key.Subject
	return grant, nil, true
}

// renewNonce answers a signed request with a stale nonce, or returns nil if the request is not worth an answer. The user of the
// allocation gets a signed answer, as RFC 8489 section 9.2.4 allows: clients that ignore what is not signed, such as werift, would
// not learn of the new nonce, and lose the allocation.
func (s *Session) renewNonce(r *request, a *allocation, now time.Time) []byte {
	if a != nil && a.username == string(r.username) && r.message.VerifyIntegrity(a.key) {
		r.origin.key = a.key
		return s.challenge(r, stun.CodeStaleNonce, now)
	}
	// Who can sign is answered whatever the rate: a flood in the name of a network must not end the calls there.
	if !s.mayAnswer(r, now) {
		if _, key := s.verify(r, a, now); key.Value == nil {
			return nil
		}
	}
	return s.challenge(r, stun.CodeStaleNonce, now)
}

// judge reports whether the credential with key, which verified a request unless its value is nil, is good now, and why not.
func judge(grant credential.Grant, key credential.Key, now time.Time) (reason event.RefusalReason, ok bool) {
	switch {
	case key.Value == nil:
		return event.RefusedCredentials, false
	case !grant.Expires.IsZero() && !now.Before(grant.Expires):
		return event.RefusedExpired, false
	case now.Before(grant.NotBefore):
		return event.RefusedFarExpiry, false
	}
	return 0, true
}

// verify returns the key that r was signed with, or one without a value if there is none. The credential may have expired, or
// expire too late.
func (s *Session) verify(r *request, a *allocation, now time.Time) (grant credential.Grant, key credential.Key) {
	if len(r.username) > maxUsernameLen || !s.shared.isRealm(r.realm) {
		return grant, key
	}
	// An allocation goes on with the credential that it began with, even when that is not granted any more or its time is
	// over, but not forever.
	if a != nil && a.username == string(r.username) && r.message.VerifyIntegrity(a.key) {
		end := a.goodUntil(s.shared.config.Authenticator, time.Duration(s.shared.expiredGrace.Load()), now)
		return credential.Grant{Expires: end}, credential.Key{Value: a.key, Subject: a.subject}
	}
	grant, ok := s.shared.config.Authenticator.Lookup(string(r.username), string(r.realm))
	if !ok {
		// As much work as for a known name, so that the time of the answer does not tell which names there are.
		r.message.VerifyIntegrity(s.shared.decoy[:])
		return credential.Grant{}, key
	}
	for _, key := range grant.Keys {
		if r.message.VerifyIntegrity(key.Value) {
			return grant, key
		}
	}
	return credential.Grant{}, key
}
