package credential

import (
	"strings"
	"time"
)

// Revoked are credentials that must not be issued again.
type Revoked struct {
	// Through is the latest expiry of the revoked credentials of an account, by its name in lower case.
	Through map[string]time.Time
	// Usernames are those of single credentials.
	Usernames []string
}

// Expiry returns the time at which the credential with an issued user name expires, and false if it is the name of a static user.
func Expiry(username string) (time.Time, bool) {
	expires, _, err := parseExpiry(username)
	return expires, err == nil
}

// revocations are Revoked as Accounts uses them.
type revocations struct {
	through map[string]int64 // seconds since the epoch
	names   map[serial]bool
}

// SetRevoked replaces the credentials that are not issued again. An account gets others, which expire later than those that were revoked:
// up to a minute and a few seconds after Through, even if that is later than the TTL of the issuer.
func (a *Accounts) SetRevoked(revoked Revoked) {
	r := revocations{make(map[string]int64), make(map[serial]bool)}
	for account, through := range revoked.Through {
		r.through[account] = through.Unix()
	}
	for _, username := range revoked.Usernames {
		if name, ok := parseSerial(username); ok {
			r.names[name] = true
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revoked = r
}

// Later returns the time as of which issuer has to issue to account, so that the credential is not revoked: now, or a later time. A nil
// *Accounts has no revocations.
func (a *Accounts) Later(issuer Issuer, account string, now time.Time) time.Time {
	if a == nil {
		return now
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if through := a.revoked.through[strings.ToLower(account)]; now.Add(issuer.TTL).Unix() <= through {
		return time.Unix(through+1, 0).Add(-issuer.TTL)
	}
	return now
}
