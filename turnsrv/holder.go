package turnsrv

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
)

// holder is who made an allocation, and the credential with which it goes on. It belongs to the goroutine of the front, except
// active.
type holder struct {
	username, realm string // for which the key is
	subject         credential.Subject
	key             []byte
	expires         time.Time // of the credential; zero: never
	withdrawn       time.Time // when the credential was seen not to be granted any more; zero while it is

	relayed uint64       // packets, when the janitor looked last
	active  atomic.Int64 // when it saw that there were more, or the allocation was made: nanoseconds after Server.start
}

// goodUntil returns the moment from which the credential is not accepted any more for the allocation that began with it:
// grace after it has expired or was withdrawn, whichever was first. It is withdrawn when its static user, or
// the secret under which it was issued, is gone, which shows at the next request: a client has to send one in each
// lifetime. The zero time is never.
func (h *holder) goodUntil(authenticator Authenticator, grace time.Duration, now time.Time) time.Time {
	grant, _ := authenticator.Lookup(h.username, h.realm)
	granted := slices.ContainsFunc(grant.Keys, func(key credential.Key) bool { return bytes.Equal(key.Value, h.key) })
	switch {
	case granted && !now.Before(grant.NotBefore):
		h.withdrawn = time.Time{}
	case h.withdrawn.IsZero():
		h.withdrawn = now
	}
	end := h.expires
	if !h.withdrawn.IsZero() && (end.IsZero() || h.withdrawn.Before(end)) {
		end = h.withdrawn
	}
	if end.IsZero() {
		return end
	}
	return end.Add(grace)
}
