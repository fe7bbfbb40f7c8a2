package turnsrv

import (
	"errors"
	"time"
)

// link is how a front reaches its clients: a UDP socket, or all connections of a stream listener.
type link interface {
	// setAlarm has the handler's tick called at t, or never if t is zero. Called by the goroutine of the handler.
	setAlarm(t time.Time)
	// wake has tick called now. Safe for concurrent use.
	wake()
	// send gives b, a whole message without padding, to a client. It does not block and does not keep b. The error is
	// errQueue when a client over a stream does not read, else the system's. Safe for concurrent use.
	send(b []byte, to client, p priority) error
	// full reports whether the system lately had no room for what was sent to any of the clients. Safe for concurrent use.
	full(now time.Time) bool
	// allocated says whether the client has an allocation from now on. Called by the goroutine of the handler.
	allocated(c client, has bool)
}

// handler takes what arrives at a link. All calls come from the goroutine that serves the link.
type handler interface {
	// handle takes a message of a client, a datagram or one frame of a stream. It is valid during the call.
	handle(b []byte, from client, now time.Time)
	// gone says that the connection of a client has ended.
	gone(from client, now time.Time)
	// tick is called when the alarm is due or the link was woken.
	tick(now time.Time)
	// end is called once, after everything else.
	end(now time.Time)
}

// priority says what may be dropped.
type priority bool

const (
	control priority = true  // an answer: without it the client has to ask again
	media   priority = false // data of a peer: late is as bad as never
)

var errQueue = errors.New("too much waits for the client")

// connection is what a front knows of a client's connection.
type connection interface {
	// name is the server name that the client gave in TLS, in lower case, or empty.
	name() string
}
