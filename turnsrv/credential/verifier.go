package credential

import "time"

// Grant is the information about a user name before its request is verified.
type Grant struct {
	// Keys contains all keys that the user may have signed with, RFC 8489 section 9.2.2. There are several during the rotation of
	// a secret, or if users of different realms share a name.
	Keys []Key
	// Expires is the time from which the credential allows no new allocations. The zero time means never.
	Expires time.Time
	// NotBefore is the time before which Expires is too far in the future for the credential to be accepted. The zero time means
	// that there is no such limit.
	NotBefore time.Time
}

// Key is a key and the subject that signs with it.
type Key struct {
	Value   []byte // never logged
	Subject Subject
}

// Subject is the entity that a quota counts. It is comparable.
type Subject struct {
	// Name is the name of a static user, or the user name of an issued credential without its expiry. If the user name consists
	// only of an expiry, Name is the account to which the credential was issued, or the whole user name if the account is unknown.
	Name string
	// Realm is the realm of a static user. It is empty for issued credentials, which are valid in every realm.
	Realm string
	// Anonymous is true if the credential may have been issued to several people: an issuer may return the same credential to
	// everyone who asks within one second.
	Anonymous bool
}

// Verifier looks up static users, and credentials issued under any of its secrets. Safe for concurrent use while it is not
// modified.
type Verifier struct {
	Secrets []Secret
	// Ring, if not nil, has further secrets, which change while the Verifier is in use.
	Ring *Ring
	// Users take precedence over issued credentials.
	Users Users
	// Accounts, if not nil, attributes user names that consist only of an expiry to accounts.
	Accounts *Accounts
	// MaxLifetime limits how far in the future an issued credential may expire. Zero means no limit.
	MaxLifetime time.Duration
}

// Lookup returns the grant for username in realm. It reports false if the name neither belongs to a static user nor has the
// form of an issued user name, or if there is no secret. An expired user name has a grant too, because an existing allocation
// may still use it.
func (v Verifier) Lookup(username, realm string) (Grant, bool) {
	if keys := v.Users.keys(username, realm); len(keys) > 0 {
		return Grant{Keys: keys}, true
	}
	expires, user, err := parseExpiry(username)
	if err != nil {
		return Grant{}, false
	}
	subject := Subject{Name: user}
	if user == "" {
		account, known := v.Accounts.Account(username)
		if !known {
			account = username
		}
		subject = Subject{Name: account, Anonymous: !known}
	}
	changing := v.Ring.Accepted()
	grant := Grant{Expires: expires, Keys: make([]Key, 0, len(changing)+len(v.Secrets))}
	if v.MaxLifetime > 0 {
		grant.NotBefore = expires.Add(-v.MaxLifetime)
	}
	for _, secrets := range [...][]Secret{changing, v.Secrets} {
		for _, secret := range secrets {
			if !secret.IsZero() {
				grant.Keys = append(grant.Keys, Key{LongTermKey(username, realm, Password(secret, username)), subject})
			}
		}
	}
	return grant, len(grant.Keys) > 0
}
