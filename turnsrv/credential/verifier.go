package credential

import "time"

// Grant is what is known about a user name before its request is verified.
type Grant struct {
	// Keys holds every key that the user may have signed with, RFC 8489 section 9.2.2. More than one during the
	// rotation of a secret, or when users of several realms have one name.
	Keys []Key
	// Expires is the moment from which the credential starts nothing new. The zero time never expires.
	Expires time.Time
	// NotBefore is the moment up to which Expires lies too far ahead for the credential to be accepted. The zero time is
	// always past.
	NotBefore time.Time
}

// Key is one key, and who signs with it.
type Key struct {
	Value   []byte // never logged
	Subject Subject
}

// Subject is whom a quota counts. It is comparable.
type Subject struct {
	// Name is that of a static user, or the user name of an issued credential without its time stamp. If nothing else is in
	// that, it is the account to which the credential was issued, or all of the user name if that is not known.
	Name string
	// Realm is that of a static user, and empty for issued credentials, which are good in every realm.
	Realm string
	// Anonymous is true if nobody knows to how many the credential was issued: all who ask an issuer in one second may get
	// the same one.
	Anonymous bool
}

// Verifier looks up static users, and credentials that were issued under any of its secrets. It is safe for concurrent
// use while nobody changes it.
type Verifier struct {
	Secrets []Secret
	// Users go first.
	Users Users
	// Accounts, if not nil, knows whose user names those are that only tell when they expire.
	Accounts *Accounts
	// MaxLifetime is how far ahead the expiry of an issued credential may lie. Zero is no limit.
	MaxLifetime time.Duration
}

// Lookup returns the grant for username in realm, and false if the name is no static user's and has not the form of an
// issued one, or there is no secret. An expired name has a grant too: whether expiry matters depends on the request.
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
	grant := Grant{Expires: expires, Keys: make([]Key, 0, len(v.Secrets))}
	if v.MaxLifetime > 0 {
		grant.NotBefore = expires.Add(-v.MaxLifetime)
	}
	for _, secret := range v.Secrets {
		if secret.IsZero() {
			continue
		}
		grant.Keys = append(grant.Keys, Key{LongTermKey(username, realm, Password(secret, username)), subject})
	}
	return grant, len(grant.Keys) > 0
}
