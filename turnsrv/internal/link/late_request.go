package link

import (
	"sync"
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
		r := lateRequests.Get().(*lateRequest)
		*r = lateRequest{handler: h, b: append(r.b[:0], b...), from: from, counters: c}
		on.Later(addr, len(b), r)
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

// lateRequests contains requests that wait no longer, so that a flood of them makes no garbage.
var lateRequests = sync.Pool{New: func() any { return new(lateRequest) }}

// Do implements loop.Task.
func (r *lateRequest) Do(now time.Time) {
	r.handler.handle(r.b, r.from, now)
	r.release()
}

// Drop implements loop.Task.
func (r *lateRequest) Drop() {
	r.counters.Drop(event.DropOverload)
	r.release()
}

// keptCapacity is the capacity in bytes up to which the memory of a request is used again. The loop limits the sum of the lengths of
// waiting requests, and long ones would make the memory of short ones longer than what it counts.
const keptCapacity = 1024

func (r *lateRequest) release() {
	if cap(r.b) > keptCapacity {
		return
	}
	*r = lateRequest{b: r.b} // keep no client
	lateRequests.Put(r)
}
