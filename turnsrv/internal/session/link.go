package session

import (
	"errors"
	"time"
)

// Link is how a session reaches its clients: a UDP socket, or all connections of a stream listener.
type Link interface {
	// SetAlarm has Tick called at t, or never if t is zero. Called by the goroutine of the session.
	SetAlarm(t time.Time)
	// Wake has Tick called now. Safe for concurrent use.
	Wake()
	// Send gives b, a whole message without padding, to a client. It does not block and does not keep b. The error is
	// ErrQueue when a client over a stream does not read, else the system's. Safe for concurrent use.
	Send(b []byte, to Client, p Priority) error
	// Full reports whether the system lately had no room for what was sent to any of the clients. Safe for concurrent use.
	Full(now time.Time) bool
	// Allocated says whether the client has an allocation from now on. Called by the goroutine of the session.
	Allocated(c Client, has bool)
}

// Priority says what may be dropped.
type Priority bool

// Priorities.
const (
	Control Priority = true  // an answer: without it the client has to ask again
	Media   Priority = false // data of a peer: late is as bad as never
)

// ErrQueue is the error of Send for a client over a stream that does not read.
var ErrQueue = errors.New("send queue of the client is full")

// Connection is what a session knows of a client's connection.
type Connection interface {
	// Name is the server name that the client gave in TLS, in lower case, or empty.
	Name() string
}
