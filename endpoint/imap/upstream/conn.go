package upstream

import (
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/backend"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
)

// A greetedConn is a connection to a server whose greeting has already been read, and which returns it again. Only one
// goroutine may read.
type greetedConn struct {
	backend.HalfCloser
	raw   *patient.Conn // below TLS, if there is TLS
	ahead []byte        // what has been read but not returned by Read
}

func (c *greetedConn) Await(limit time.Duration) bool { return c.raw.Await(limit) }

func (c *greetedConn) Rest(l *patient.Lobby, f func()) { c.raw.Rest(l, f) }

func (c *greetedConn) Unsent() int { return c.raw.Unsent() }

func (c *greetedConn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.HalfCloser.Read(p)
	}
	n := copy(p, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
	}
	return n, nil
}
