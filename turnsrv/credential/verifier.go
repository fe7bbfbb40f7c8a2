package credential

import "time"

// Grant is what is known about a user name before its request is verified.
type Grant struct {
	// Keys holds every key that the user may have signed with, RFC 8489 section 9.2.2. More than one during the
	// rotation of a secret, or when users of several realms have one name. Never logged.
	Keys [][]byte
	// Expires is the moment from which the credential starts nothing new. The zero time never expires.
	Expires time.Time
	// Subject is whom a quota counts: the user name without its time stamp, or, if nothing else is in it, the account that
	// it was issued to, or all of the user name if that is not known.
	Subject string
}

// Verifier looks up static users, and credentials that were issued under any of its secrets. It is safe for concurrent
// use while nobody changes it.
type Verifier struct {
	Secrets []Secret
	// Users go first.
	Users Users
	// Accounts, if not nil, knows whose user names those are that only tell when they expire.
	Accounts *Accounts
}

// Lookup returns the grant for username in realm, and false if the name is no static user's and has not the form of an
// issued one, or there is no secret. An expired name has a grant too: whether expiry matters depends on the request.
func (v Verifier) Lookup(username, realm string) (Grant, bool) {
	if keys := v.Users.keys(username, realm); len(keys) > 0 {
		return Grant{Keys: keys, Subject: username}, true
	}
	expires, user, err := ParseExpiry(username)
	if err != nil {
		return Grant{}, false
	}
	if user == "" {
		var known bool
		if user, known = v.Accounts.Account(username); !known {
			user = username
		}
	}
	grant := Grant{Expires: expires, Subject: user, Keys: make([][]byte, 0, len(v.Secrets))}
	for _, secret := range v.Secrets {
		if secret.IsZero() {
			continue
		}
		grant.Keys = append(grant.Keys, LongTermKey(username, realm, Password(secret, username)))
	}
	return grant, len(grant.Keys) > 0
}
