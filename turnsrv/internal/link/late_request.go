package link

import (
	"bytes"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// messageHandler handles the messages of clients. It is not a function, because a method value allocates memory for each message.
type messageHandler interface {
	handle(b []byte, from session.Client, now time.Time)
}

// handleInTurn calls h.handle with a message of a client, immediately unless it is a request and the loop has other clients' data to
// relay first. A request takes up to 20 times as much time as data: it requires a MAC, and may open a socket. If too many requests
// wait, it is dropped; the client retransmits it, RFC 8489 section 6.2.1.
func handleInTurn(on *loop.Loop, b []byte, from session.Client, now time.Time, h messageHandler, c *count.Counters) {
	switch addr := from.Tuple.Client.Addr(); {
	case !stun.IsRequest(b) || on.Admit():
		h.handle(b, from, now)
	case on.MayWait(addr, len(b)):
		on.Later(addr, len(b), &lateRequest{handler: h, b: bytes.Clone(b), from: from, counters: c})
	default:
		c.Drop(event.DropOverload)
	}
}

// lateRequest is a request that waits. It implements loop.Task.
type lateRequest struct {
	handler  messageHandler
	b        []byte
	from     session.Client
	counters *count.Counters
}

// Do implements loop.Task.
func (r *lateRequest) Do(now time.Time) { r.handler.handle(r.b, r.from, now) }

// Drop implements loop.Task.
func (r *lateRequest) Drop() { r.counters.Drop(event.DropOverload) }
