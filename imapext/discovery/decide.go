package discovery

import (
	"errors"
	"fmt"
	"time"

	"github.com/mailturn/mailturn/imapext/metadata"
)

// FallbackPeriod is how long core keeps to the fall-back servers before it asks again, in memory: a restart of the app
// asks at once.
const FallbackPeriod = 7 * 24 * time.Hour

// Reasons of a fall-back.
var (
	ErrNoCapability = errors.New("the server does not list METADATA after login")
	ErrNoEntry      = errors.New("the server has no value for " + TURNEntry)
	ErrBadValue     = errors.New("the value of " + TURNEntry + " does not parse")
	errNoAddress    = errors.New("the name has no address")
)

// Decision is what core works with after it has asked.
type Decision struct {
	// Value is the value that is used; meaningless with a Fallback.
	Value    Value
	Fallback bool
	// Reason says why there is a fall-back: ErrNoCapability, ErrNoEntry, or ErrBadValue with the cause; nil without one.
	Reason  error
	Expires time.Time // of the credential, or of the fall-back
}

// Servers returns whom core would use for a call: the value's server, or those of the fall-back. For an account with several
// mailboxes core 2.58 and later take the servers of each, sorted and without repetitions.
func (d Decision) Servers() []Server {
	if d.Fallback {
		return FallbackServers()
	}
	return []Server{d.Value.Server()}
}

// Decide takes the value out of the entries that the server sent, as core does: names are compared byte for byte, and of
// several values the last one that parses counts.
func Decide(entries []metadata.Entry, now time.Time) Decision {
	reason := ErrNoEntry
	var found *Value
	for _, entry := range entries {
		if entry.Name != TURNEntry || entry.Value.IsNIL() {
			continue
		}
		value, err := ParseValue(entry.Value.Octets())
		if err != nil {
			reason = fmt.Errorf("%w: %w", ErrBadValue, err)
			continue
		}
		found = &value
	}
	if found == nil {
		return FallBack(reason, now)
	}
	return Decision{Value: *found, Expires: time.Unix(found.Expires, 0)}
}

// FallBack returns the decision for a server that cannot be asked or has nothing usable to say.
func FallBack(reason error, now time.Time) Decision {
	return Decision{Fallback: true, Reason: reason, Expires: now.Add(FallbackPeriod)}
}
