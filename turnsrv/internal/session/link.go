package session

import (
	"errors"
	"time"
)

// Link connects a session to its clients: over a UDP socket, or over all connections of a stream listener.
type Link interface {
	// SetAlarm schedules a call of Tick at t, or cancels it if t is zero. Called only by the goroutine of the session.
	SetAlarm(t time.Time)
	// Wake schedules a call of Tick as soon as possible. Safe for concurrent use.
	Wake()
	// Send sends b, a whole message without padding, to a client. It neither blocks nor retains b. The link calls sender.Sent once,
	// before or after Send returns: with payload, and with nil, with ErrQueue if a stream client does not read, or with a system
	// error. Safe for concurrent use, except on an event loop, where it is called on the goroutine of the session.
	Send(b []byte, to Client, p Priority, payload int, sender Sender)
	// Full reports whether a recent Send to any client failed because the socket buffer was full. Safe for concurrent use.
	Full(now time.Time) bool
	// Allocated records whether the client has an allocation. Called only by the goroutine of the session.
	Allocated(c Client, has bool)
}

// Sender learns the result of Link.Send.
type Sender interface{ Sent(payload int, err error) }

// Priority determines what is dropped first when a client does not read.
type Priority bool

// Priorities.
const (
	Control Priority = true  // a response: without it, the client must retransmit
	Media   Priority = false // data from a peer: useless if late
)

// ErrQueue is passed to Sender.Sent if the send queue of a stream client is full.
var ErrQueue = errors.New("send queue of the client is full")

// Connection describes the connection of a stream client.
type Connection interface {
	// Name returns the TLS server name that the client sent, in lower case, or an empty string.
	Name() string
}
