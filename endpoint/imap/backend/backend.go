// Package backend defines what a session requires of its IMAP server.
package backend

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
)

// A Server is an IMAP server: an existing one, or the embedded one. Its methods are safe for concurrent use.
type Server interface {
	// Dial opens a connection for a client, within ctx. The error is a *ByeError if the server refuses the client.
	Dial(ctx context.Context, from origin.Origin) (Conn, error)
	// Health returns why clients cannot be connected at the moment, if that is known.
	Health() error
	// String returns the name of the server for logs.
	String() string
	// Close releases the server's resources, after the last session has ended.
	Close()
}

// A Conn is a connection that can be half-closed, and awaited without a buffer: see patient.Conn.
type Conn interface {
	HalfCloser
	// Await waits until there may be something to read. It returns quiet if limit passes first, unless that is 0.
	Await(limit time.Duration) (quiet bool)
	// Rest calls f on a new goroutine as soon as there may be something to read.
	Rest(l *patient.Lobby, f func())
	// Unsent returns how many of the bytes written the other end has not received, or 0 if that is not known.
	Unsent() int
}

// A HalfCloser is a connection that can be half-closed.
type HalfCloser interface {
	net.Conn
	CloseWrite() error
}

// A ByeError is the greeting BYE, with which a server refuses a client (RFC 9051 section 7.1.5).
type ByeError struct{ Text string } // what follows "* BYE "

func (e *ByeError) Error() string { return fmt.Sprintf("greeted with BYE %q", e.Text) }
