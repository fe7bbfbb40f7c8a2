package link

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// Movable is a Handler whose clients another process can take over. All calls are made by the goroutine that serves the link.
type Movable interface {
	Handler
	// Export adds the state of the clients to l: see session.Session.
	Export(e *session.Export, l *handover.Link, stream func(session.Connection) (int, bool)) error
	// Restore restores what Export has added in another process.
	Restore(in *handover.Incoming, l *handover.Link, stream func(int) (session.Connection, bool)) error
	// Release forgets the clients for which handedOver returns true, and ends the others. Only End is called afterwards.
	Release(handedOver func(session.Client) bool, now time.Time)
}
