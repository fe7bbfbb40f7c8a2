package link

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// Handler takes what arrives at a link. All calls come from the goroutine that serves the link.
type Handler interface {
	// Handle takes a message of a client, a datagram or one frame of a stream. It is valid during the call.
	Handle(b []byte, from session.Client, now time.Time)
	// Gone says that the connection of a client has ended.
	Gone(from session.Client, now time.Time)
	// Tick is called when the alarm is due or the link was woken.
	Tick(now time.Time)
	// End is called once, after everything else.
	End(now time.Time)
}
