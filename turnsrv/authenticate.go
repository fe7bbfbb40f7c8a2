package turnsrv

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// maxUsernameLen is the most that RFC 8489 section 14.3 allows.
const maxUsernameLen = 508

// authenticate verifies a request by the long-term credential mechanism, RFC 8489 section 9.2.4. a is the allocation of
// the client's 5-tuple, or nil. A non-nil answer refuses the request; otherwise r.key and r.origin.username are set.
//
// The nonce is looked at before the password, against the order of the section: a request that was not provoked by an
// answer of ours to that very address then costs one short MAC, and guesses at a password only count from a real address.
// A client that has both wrong learns it one round trip later.
func (f *front) authenticate(r *request, a *allocation, now time.Time) (grant credential.Grant, answer []byte) {
	if !r.message.HasIntegrity() {
		return grant, f.challenge(&r.origin, stun.CodeUnauthenticated, now)
	}
	if r.username == nil || r.realm == nil || r.nonce == nil {
		return grant, f.refuse(&r.origin, stun.CodeBadRequest)
	}
	if !f.server.nonces.valid(r.nonce, r.client.tuple, now) {
		return grant, f.challenge(&r.origin, stun.CodeStaleNonce, now)
	}
	grant, key := f.verify(r, a, now)
	if key == nil {
		return grant, f.challenge(&r.origin, stun.CodeUnauthenticated, now)
	}
	r.origin.key, r.origin.username = key, string(r.username)
	return grant, nil
}

// verify returns the key that r was signed with, or nil if there is none or its credential has expired.
func (f *front) verify(r *request, a *allocation, now time.Time) (credential.Grant, []byte) {
	if len(r.username) > maxUsernameLen || string(r.realm) != f.server.config.Realm {
		return credential.Grant{}, nil
	}
	// An allocation goes on with the credential that it began with, even when its secret was rotated away or its time is
	// over, but not for ever.
	if a != nil && a.username == string(r.username) && r.message.VerifyIntegrity(a.key) {
		if !a.credentialExpires.IsZero() && !now.Before(a.credentialExpires.Add(f.server.config.ExpiredGrace)) {
			return credential.Grant{}, nil
		}
		return credential.Grant{Expires: a.credentialExpires, Subject: a.subject}, a.key
	}
	grant, ok := f.server.config.Authenticator.Lookup(string(r.username), f.server.config.Realm)
	if !ok {
		return credential.Grant{}, nil
	}
	for _, key := range grant.Keys {
		if r.message.VerifyIntegrity(key) {
			if !grant.Expires.IsZero() && !now.Before(grant.Expires) {
				return credential.Grant{}, nil
			}
			return grant, key
		}
	}
	return credential.Grant{}, nil
}
