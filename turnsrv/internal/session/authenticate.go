package session

import (
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Limits on the signed requests of one allocation: per second, and in one burst. An ICE agent with a hundred candidates
// requests a hundred permissions and channels in its first seconds. Requests above the limit are dropped, so the client
// retransmits them.
const (
	maxRequestRate = 64
	maxRequests    = 512
)

// maxUsernameLen is the maximum length of USERNAME in bytes, RFC 8489 section 14.3.
const maxUsernameLen = 508

// authenticate checks a request with the long-term credential mechanism, RFC 8489 section 9.2.4. a is the allocation of the
// client's 5-tuple, or nil. If ok is true, authenticate has set the key, username and subject of r.origin. Otherwise answer is
// the error response, or nil if the request is dropped.
//
// The nonce is checked before the password, contrary to the order in that section. A request with a nonce that was not issued
// to its source address then costs only one short MAC, and password guesses count only if their source address is genuine. A
// client that has both wrong learns of the wrong password one round trip later.
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
	if a != nil && !a.mayRequest(now) {
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
		if reason == event.RefusedCredentials && s.shared.config.LogGuesses {
			s.logGuess(r)
		}
		if reason == event.RefusedFarExpiry {
			s.shared.logFarExpiry(grant.Expires, now)
		}
		return grant, s.challenge(r, stun.CodeUnauthenticated, now), false
	}
	r.origin.key, r.origin.username, r.origin.subject = key.Value, string(r.username), key.Subject
	return grant, nil, true
}

// logGuess logs a wrong password or an unknown user. The source address is genuine, because the nonce was issued to it, and
// Config.MaxGuesses limits the lines per address.
func (s *Session) logGuess(r *request) {
	client := r.client.Tuple.Client
	username := r.username[:min(len(r.username), maxUsernameLen)]
	s.shared.config.Logger.Warn("wrong password", "client", netip.AddrPortFrom(client.Addr().Unmap(), client.Port()).String(),
		"transport", r.client.Tuple.Transport.String(), "username", string(username))
}

// mayRequest reports whether the rate of signed requests for the allocation permits one more, and counts it.
func (a *allocation) mayRequest(now time.Time) bool {
	if a.requests.Take(1, maxRequestRate, maxRequests, now.Sub(a.session.shared.start)) {
		return true
	}
	a.addresses[0].drop(event.DropRequestRate, netip.AddrPort{}, nil)
	return false
}

// renewNonce returns the response to a signed request with a stale nonce, or nil if the request is dropped. The owner of the
// allocation gets a signed response, as RFC 8489 section 9.2.4 allows. Clients that ignore unsigned responses, such as werift,
// would otherwise never learn the new nonce and would lose the allocation.
func (s *Session) renewNonce(r *request, a *allocation, now time.Time) []byte {
	if a != nil && a.username == string(r.username) && r.message.VerifyIntegrity(a.key) {
		if !a.mayRequest(now) {
			return nil
		}
		r.origin.key = a.key
		return s.challenge(r, stun.CodeStaleNonce, now)
	}
	// A client that can sign gets a response regardless of the rate: a flood with spoofed source addresses must not end the calls
	// of their network.
	if !s.mayAnswer(r, now) {
		if _, key := s.verify(r, a, now); key.Value == nil {
			return nil
		}
	}
	return s.challenge(r, stun.CodeStaleNonce, now)
}

// judge reports whether the credential of key is acceptable now, and the reason if it is not. key has no value if no key
// verified the request.
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

// verify returns the key that r is signed with, or a key without a value if none matches. The credential may have expired, or
// may expire too far in the future.
func (s *Session) verify(r *request, a *allocation, now time.Time) (grant credential.Grant, key credential.Key) {
	realm, ok := s.shared.realmNamed(r.realm)
	if len(r.username) > maxUsernameLen || !ok {
		return grant, key
	}
	// An allocation can continue with its original credential for a limited time after that credential has expired or is no longer
	// granted.
	if a != nil && a.username == string(r.username) && r.message.VerifyIntegrity(a.key) {
		end := a.goodUntil(s.shared.config.Authenticator, time.Duration(s.shared.expiredGrace.Load()), now)
		return credential.Grant{Expires: end}, credential.Key{Value: a.key, Subject: a.subject}
	}
	grant, ok = s.shared.config.Authenticator.Lookup(string(r.username), realm)
	if !ok {
		// Take as long as for a known name, so that the response time does not reveal which names exist.
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
