package ban

import (
	"strings"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
)

// Revocation makes credentials invalid that were issued before, while later ones are accepted.
type Revocation struct {
	// Account is the name of an account, as in credential.Subject. It is case-insensitive. Empty if only Usernames are revoked.
	Account string
	// Usernames are those of single credentials, or contains user names of the account that the server cannot attribute to it.
	Usernames []string
	// Through is the latest expiry of the revoked credentials of the account.
	Through time.Time
}

// revoked reports whether the credential with a user name of an account is revoked.
func (t *table) revoked(account, username string) bool {
	if len(t.through) == 0 && len(t.usernames) == 0 {
		return false
	}
	if t.usernames[username] {
		return true
	}
	through, ok := t.through[strings.ToLower(account)]
	if !ok {
		return false
	}
	expires, ok := credential.Expiry(username)
	return ok && !expires.After(through)
}
