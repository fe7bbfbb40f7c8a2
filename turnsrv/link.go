package turnsrv

import (
	"errors"
	"time"
)

// link is how a front reaches its clients: a UDP socket, or all connections of a stream listener.
type link interface {
	// receive reads the next message of a client into p. Its errors: errAlarm when the alarm is due or somebody called
	// wake, errGone when the client is gone for good, anything else when the link is at its end. Called by one goroutine.
	receive(p []byte) (int, client, error)
	// setAlarm has receive return at t, or never if t is zero. Called by the goroutine that calls receive.
	setAlarm(t time.Time)
	// wake has receive return now. Safe for concurrent use.
	wake()
	// send gives b, a whole message without padding, to a client. It does not block and does not keep b. The error is
	// errQueue when a client over a stream does not read, else the system's. Safe for concurrent use.
	send(b []byte, to client, p priority) error
	// full reports whether the system lately had no room for what was sent to any of the clients. Safe for concurrent use.
	full(now time.Time) bool
	// allocated tells that the client has an allocation now, or no longer. Called by the goroutine that calls receive.
	allocated(c client, has bool)
}

// priority says what may be dropped.
type priority bool

const (
	control priority = true  // an answer: without it the client has to ask again
	media   priority = false // data of a peer: late is as bad as never
)

var (
	errAlarm = errors.New("alarm")
	errGone  = errors.New("client is gone")
	errQueue = errors.New("too much waits for the client")
)
