package imap

import (
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
	return e.present.Load().issue(s.Account, time.Now())
}

// issue returns the annotations, with a credential issued to account now. A relay without TLS leaves
// /shared/vendor/deltachat/turns without a value, and ours all the same: the backend's value could only be one that a user has written there. When TURN
// is disabled, both entries are the backend's own affair.
func (e *serverEntries) issue(account string, now time.Time) []metadata.Entry {
	if !e.turn.Enable.V {
		return e.configured
	}
	turn, turns := e.turn.Values(e.turn.IssueTo(account, now))
	turnsValue := metadata.NIL
	if turns != "" {
		turnsValue = metadata.String(turns)
	}
	return append(slices.Clip(e.configured),
		metadata.Entry{Name: TURNEntry, Value: metadata.String(turn)},
		metadata.Entry{Name: TURNSEntry, Value: turnsValue})
}
