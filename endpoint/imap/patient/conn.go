// Package patient has connections that are waited for without a buffer.
package patient

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// StallTimeout is how long a connection on which bytes are waiting may go without taking any of them. It is Dovecot's time-out for
// clients that do not read.
const StallTimeout = 5 * time.Minute

// KeepAlive returns how hosts that have vanished are found out. Go's defaults would give up on one that has no network for two and a
// half minutes, as a phone in a tunnel has, and would wake the radio of each phone in IDLE every 15 seconds.
func KeepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: StallTimeout, Interval: time.Minute, Count: 9}
}

// ErrNothingYet is what reading a Conn returns while nothing has come. It is a net.Error, and temporary, so that
// crypto/tls goes on where it was at the next read.
var ErrNothingYet net.Error = nothingYet{}

type nothingYet struct{}

func (nothingYet) Error() string   { return "nothing has come yet" }
func (nothingYet) Timeout() bool   { return true }
func (nothingYet) Temporary() bool { return true }

// A Conn is a connection on which a goroutine waits without a buffer, and below whatever TLS and compression keep on
// a stack: Await waits, and Read takes what has come. Thousands of sessions wait at any time, and what they hold meanwhile
// is most of their memory. One goroutine reads and calls Await.
//
// It begins as any other connection, on which Read waits, until BeginPatience.
type Conn struct {
	net.Conn
	raw  syscall.RawConn // nil before BeginPatience, and for good if the connection has none
	take func(fd uintptr) bool
	look func(fd uintptr) bool

	// drained: the last read took less than it could have, so there is nothing more until Await has returned.
	drained bool

	// Of the call that goes on:
	p      []byte
	n      int
	err    error
	looked bool

	// mu guards bounded: there is a read deadline by SetReadDeadline.
	mu      sync.Mutex
	bounded bool
}

// New returns conn as a Conn.
func New(conn net.Conn) *Conn { return &Conn{Conn: conn} }

// BeginPatience lets Read return ErrNothingYet from now on. Connections that are none of the system's, such as pipes, go on
// as before.
func (c *Conn) BeginPatience() {
	conn, ok := c.Conn.(syscall.Conn)
	if !ok || !canReadAtOnce {
		return
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return // it is closed, as Read will say
	}
	c.raw = raw
	c.take = func(fd uintptr) bool {
		c.n, c.err = readAtOnce(fd, c.p)
		return true
	}
	// The runtime forgets what it knows about the connection when another wait begins, so the first look is needed.
	c.look = func(fd uintptr) bool {
		if c.looked {
			return true
		}
		c.looked = true
		return readable(fd)
	}
}

// EndPatience lets Read wait again.
func (c *Conn) EndPatience() { c.raw, c.drained = nil, false }

// Read reads what has come, or returns ErrNothingYet.
func (c *Conn) Read(p []byte) (int, error) {
	if c.raw == nil || len(p) == 0 {
		return c.Conn.Read(p)
	}
	if c.drained {
		return 0, ErrNothingYet
	}
	c.p = p
	err := c.raw.Read(c.take)
	c.p = nil
	switch {
	case err != nil: // a deadline, or closed
		return 0, err
	case c.err != nil:
		return 0, c.err
	case c.n == 0:
		return 0, io.EOF
	}
	c.drained = c.n < len(p)
	return c.n, nil
}

// Await waits until there may be something to read: data, the end, an error, or that the read deadline has passed. It
// returns quiet if nothing of this has happened within limit, if that is not 0.
func (c *Conn) Await(limit time.Duration) (quiet bool) {
	if c.raw == nil {
		return false
	}
	c.drained, c.looked = false, false
	if limit > 0 {
		c.boundUnlessBounded(time.Now().Add(limit))
	}
	err := c.raw.Read(c.look)
	if limit > 0 && c.boundUnlessBounded(time.Time{}) {
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	return false // err comes again from Read
}

// boundUnlessBounded sets a deadline of our own, unless there is one by SetReadDeadline, which goes first.
func (c *Conn) boundUnlessBounded(t time.Time) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bounded {
		return false
	}
	c.Conn.SetReadDeadline(t)
	return true
}

// SetReadDeadline bounds Read and Await, from any goroutine.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bounded = !t.IsZero()
	return c.Conn.SetReadDeadline(t)
}

// Unsent returns how many bytes the other end's system has not acknowledged, 0 where that is not known.
func (c *Conn) Unsent() int { return unsent(c.Conn) }

// CloseWrite closes the writing side.
func (c *Conn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return errors.ErrUnsupported
}
