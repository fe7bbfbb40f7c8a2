package imap

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/imapext"
	"github.com/mailturn/mailturn/imapext/metadata"
)

// The entries from which Delta Chat learns of a TURN server.
const (
	TURNEntry  = "/shared/vendor/deltachat/turn"
	TURNSEntry = "/shared/vendor/deltachat/turns"
)

// serverEntries is the source of our annotations: those of the configuration, and, when there is a relay, the two that
// carry a credential made for the one who asks.
type serverEntries struct {
	configured []metadata.Entry
	turn       TURN
}

// liveEntries are the serverEntries of the configuration in force, for the sessions of every generation: after a change of the
// relay's secret, a session of the day before must not issue credentials that the relay refuses.
type liveEntries struct{ present atomic.Pointer[serverEntries] }

var _ imapext.Entries = (*liveEntries)(nil)

func (e *liveEntries) set(config *Config) {
	e.present.Store(&serverEntries{config.Entries, config.TURN})
}

// Entries implements imapext.Entries.
func (e *liveEntries) Entries(s imapext.Session) []metadata.Entry {
	return e.present.Load().issue(s, time.Now())
}

// issue returns the annotations, with a credential issued now to the session's account. What the relay does not serve, TURN
// over UDP or over TLS, leaves its entry without a value, and ours all the same: the backend's value could only be one that a
// user has written there. When TURN is disabled, both entries are the backend's own affair.
func (e *serverEntries) issue(s imapext.Session, now time.Time) []metadata.Entry {
	if !e.turn.Enable.V {
		return e.configured
	}
	// Where the name of the account cannot be seen, its client's address has to do for choosing among several relays.
	relay := e.turn.For(cmp.Or(s.Account, s.Remote.Addr().String()))
	turn, turns := relay.Values(relay.IssueTo(s.Account, now))
	return append(slices.Clip(e.configured),
		metadata.Entry{Name: TURNEntry, Value: valueOf(turn)},
		metadata.Entry{Name: TURNSEntry, Value: valueOf(turns)})
}

// valueOf returns text as a value, and none for no text.
func valueOf(text string) metadata.Value {
	if text == "" {
		return metadata.NIL
	}
	return metadata.String(text)
}
