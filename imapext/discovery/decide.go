package discovery

import (
	"errors"
	"fmt"
	"time"

	"github.com/mailturn/mailturn/imapext/metadata"
)

// fallbackPeriod is how long core uses FallbackServers before it asks again. It remembers this in memory only, so it asks again
// after a restart of the app.
const fallbackPeriod = 7 * 24 * time.Hour

// Reasons for a fallback.
var (
	ErrNoCapability = errors.New("the server does not list METADATA after login")
	ErrNoEntry      = errors.New("the server has no value for " + TURNEntry)
	ErrBadValue     = errors.New("the value of " + TURNEntry + " does not parse")
	errNoAddress    = errors.New("the name has no address")
)

// Decision is what core uses after it has asked.
type Decision struct {
	Value    Value // zero with Fallback
	Fallback bool  // core uses FallbackServers
	// Reason says why there is a fallback: ErrNoCapability, ErrNoEntry, or ErrBadValue with its cause. It is nil if there is none.
	Reason  error
	Expires time.Time // of the credential, or of the fallback
}

// Servers returns the servers that core would use for a call: the value's server, or FallbackServers. For an account with several
// mailboxes core 2.58 and later uses the servers of each, sorted and without duplicates.
func (d Decision) Servers() []Server {
	if d.Fallback {
		return FallbackServers()
	}
	return []Server{d.Value.Server()}
}

// Decide selects the value from the entries that the server sent, as core does: it compares names byte for byte, and of several
// values it uses the last one that parses.
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
		return fallback(reason, now)
	}
	return Decision{Value: *found, Expires: found.Expires}
}

// fallback returns the decision for a server that has no usable value.
func fallback(reason error, now time.Time) Decision {
	return Decision{Fallback: true, Reason: reason, Expires: now.Add(fallbackPeriod)}
}
