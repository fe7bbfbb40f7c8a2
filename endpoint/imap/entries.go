package imap

import (
	"slices"
	"strconv"
	"time"

	"github.com/mailturn/mailturn/imapext"
	"github.com/mailturn/mailturn/imapext/metadata"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// The entries from which Delta Chat learns of a TURN server.
const (
	turnEntry  = "/shared/vendor/deltachat/turn"
	turnsEntry = "/shared/vendor/deltachat/turns"
)

// serverEntries is the source of our annotations: those of the configuration, and, when there is a relay, the two that
// carry a credential made for the one who asks.
type serverEntries struct {
	configured []metadata.Entry
	turn       *turnAdvertisement // nil when disabled
}

// A turnAdvertisement makes the values of the two entries: host:port:user:password.
type turnAdvertisement struct {
	turn, turns string // host:port, turns empty for a relay without TLS
	issuer      credential.Issuer
}

var _ imapext.Entries = serverEntries{}

func newServerEntries(configured []metadata.Entry, turn TURN) serverEntries {
	entries := serverEntries{configured: configured}
	if !turn.Enable.V {
		return entries
	}
	ad := &turnAdvertisement{issuer: credential.Issuer{Secret: turn.Secrets.V[0], TTL: turn.TTL.V}}
	port := turn.Port.V
	if turn.PreferTLS.V {
		port = turn.TLSPort.V
	}
	ad.turn = turn.Server.V + ":" + strconv.Itoa(int(port))
	if turn.TLSPort.V != 0 {
		ad.turns = turn.Server.V + ":" + strconv.Itoa(int(turn.TLSPort.V))
	}
	entries.turn = ad
	return entries
}

// Entries returns the annotations, with a credential issued now. A relay without TLS leaves /shared/vendor/deltachat/turns
// without a value, and ours all the same: the backend's value could only be one that a user has written there. When TURN
// is disabled, both entries are the backend's own affair.
func (e serverEntries) Entries(imapext.Session) []metadata.Entry {
	if e.turn == nil {
		return e.configured
	}
	c := e.turn.issuer.Issue(time.Now())
	turns := metadata.NIL
	if e.turn.turns != "" {
		turns = metadata.String(e.turn.turns + ":" + c.Username + ":" + c.Password)
	}
	return append(slices.Clip(e.configured),
		metadata.Entry{Name: turnEntry, Value: metadata.String(e.turn.turn + ":" + c.Username + ":" + c.Password)},
		metadata.Entry{Name: turnsEntry, Value: turns})
}
