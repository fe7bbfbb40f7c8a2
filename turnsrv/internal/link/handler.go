package link

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// Handler receives the messages and events of a link. All calls are made by the goroutine that serves the link.
type Handler interface {
	// Handle processes a message of a client: a datagram, or one frame of a stream. b is valid during the call.
	Handle(b []byte, from session.Client, now time.Time)
	// Gone is called when the connection of a client has ended.
	Gone(from session.Client, now time.Time)
	// Tick is called when the alarm is due or the link was woken.
	Tick(now time.Time)
	// End is called once, after all other calls.
	End(now time.Time)
}
