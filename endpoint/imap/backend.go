package imap

import (
	"context"
	"net"
	"time"
)

// A backend is the IMAP server behind the filter: one that is already there, or the embedded one.
type backend interface {
	// dial opens a connection for a client, within ctx. The error is a *byeError if the backend refuses the client.
	dial(ctx context.Context, from origin) (backendConn, error)
	// health returns why nobody can be connected at the moment, as far as is known.
	health() error
	// String is what logs call it.
	String() string
	// close ends what is left of the backend, after the last session has ended.
	close()
}

// A backendConn is a connection that can be half closed, and waited for without a buffer: see patientConn.
type backendConn interface {
	halfCloser
	await(limit time.Duration) (quiet bool)
	// unsent returns how many of the bytes written the other end has not taken, 0 where that is not known.
	unsent() int
}

// A halfCloser is a connection that can be half closed.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}
