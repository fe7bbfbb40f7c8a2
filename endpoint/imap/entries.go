package imap

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/imapext"
	"github.com/mailturn/mailturn/imapext/metadata"
)

// The entries from which Delta Chat learns about a TURN server.
const (
	TURNEntry  = "/shared/vendor/deltachat/turn"
	TURNSEntry = "/shared/vendor/deltachat/turns"
)

// serverEntries is the source of our annotations: those of the configuration and, if there is a relay, two with a credential for
// the account of the session.
type serverEntries struct {
	configured []metadata.Entry
	turn       TURN
}

// liveEntries are the serverEntries of the configuration in force, for the sessions of every generation: after the relay's secret
// has changed, an old session must not issue credentials that the relay refuses.
type liveEntries struct{ present atomic.Pointer[serverEntries] }

var _ imapext.Entries = (*liveEntries)(nil)

func (e *liveEntries) set(config *Config) {
	e.present.Store(&serverEntries{config.Entries, config.TURN})
}

// Entries implements imapext.Entries.
func (e *liveEntries) Entries(s imapext.Session) []metadata.Entry {
	return e.present.Load().issue(s, time.Now())
}

// issue returns the annotations, with a credential issued now to the session's account. If the relay does not serve TURN over UDP
// or over TLS, that entry has no value but is still ours: a value of the backend's could only have been written by a user. If TURN
// is disabled, the backend answers for both entries.
func (e *serverEntries) issue(s imapext.Session, now time.Time) []metadata.Entry {
	if !e.turn.Enable.V {
		return e.configured
	}
	// If the account's name is not known, the client's address chooses among several relays.
	relay := e.turn.ForClient(cmp.Or(s.Account, s.Remote.Addr().String()), s.Remote.Addr())
	turn, turns := relay.Values(relay.IssueTo(s.Account, now))
	return append(slices.Clip(e.configured),
		metadata.Entry{Name: TURNEntry, Value: valueOf(turn)},
		metadata.Entry{Name: TURNSEntry, Value: valueOf(turns)})
}

// valueOf returns text as a value, or NIL if it is empty.
func valueOf(text string) metadata.Value {
	if text == "" {
		return metadata.NIL
	}
	return metadata.String(text)
}
