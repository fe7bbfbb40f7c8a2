// Package patient provides connections on which a goroutine can wait without a buffer.
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

// StallTimeout is how long a connection may accept none of the bytes that are waiting for it. It is Dovecot's timeout for clients
// that do not read.
const StallTimeout = 5 * time.Minute

// KeepAlive returns the configuration that detects hosts that have vanished. Go's defaults would give up on a host without network
// for two and a half minutes, such as a phone in a tunnel, and would wake the radio of each phone in IDLE every 15 seconds.
func KeepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: StallTimeout, Interval: time.Minute, Count: 9}
}

// ErrNothingYet is the error of Conn.Read while nothing has arrived. It is a temporary net.Error, so that crypto/tls continues at
// the next read.
var ErrNothingYet net.Error = nothingYet{}

type nothingYet struct{}

func (nothingYet) Error() string   { return "nothing has arrived yet" }
func (nothingYet) Timeout() bool   { return true }
func (nothingYet) Temporary() bool { return true }

// A Conn is a connection on which a goroutine waits without a buffer, and without what TLS and compression keep on the stack: Await
// waits, and Read takes what has arrived. Thousands of sessions wait at any time, and what they hold meanwhile is most of their
// memory. After a while, Rest waits without a goroutine. Read, Await and Rest are called by one goroutine at a time.
//
// Before BeginPatience, Read waits as on any other connection.
type Conn struct {
	net.Conn
	raw     syscall.RawConn // nil if the connection has none
	ahead   []byte          // what Read returns first
	take    func(fd uintptr) bool
	look    func(fd uintptr) bool
	out     writer
	patient bool // Read does not wait

	// drained is true if the last read returned less than the buffer's size, so there is nothing more until Await has returned.
	drained bool

	// Of the current call:
	p      []byte
	n      int
	err    error
	looked bool

	mu      sync.Mutex // guards what follows
	bounded bool       // there is a read deadline from SetReadDeadline
	alarm   time.Time  // the read deadline from Await; zero if there is none
	closed  bool
	rested  func() // to be called after the wait in lobby; nil while the connection is not there
	lobby   *Lobby
}

// New returns conn as a Conn.
func New(conn net.Conn) *Conn {
	c := &Conn{Conn: conn}
	system, ok := conn.(syscall.Conn)
	if !ok || !canReadAtOnce {
		return c
	}
	raw, err := system.SyscallConn()
	if err != nil {
		return c
	}
	c.raw, c.out.raw = raw, raw
	c.take = func(fd uintptr) bool {
		c.n, c.err = readAtOnce(fd, c.p)
		return c.patient || c.err != error(ErrNothingYet)
	}
	// The runtime forgets that the connection is readable when another wait starts, so this has to be checked first.
	c.look = func(fd uintptr) bool {
		if c.looked {
			return true
		}
		c.looked = true
		return readable(fd)
	}
	return c
}

// BeginPatience makes Read return ErrNothingYet from now on. It has no effect on connections without a file descriptor, such as
// pipes.
func (c *Conn) BeginPatience() { c.patient = c.raw != nil }

// EndPatience makes Read wait again.
func (c *Conn) EndPatience() { c.patient, c.drained = false, false }

// Unread makes Read return b first. It is called before the first Read, and all of it is read before BeginPatience.
func (c *Conn) Unread(b []byte) { c.ahead = b }

// Read reads what has arrived, or returns ErrNothingYet.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		return n, nil
	}
	if c.raw == nil || len(p) == 0 {
		return c.Conn.Read(p)
	}
	if c.drained {
		return 0, ErrNothingYet
	}
	c.p = p
	err := c.raw.Read(c.take)
	if c.lapsed(err) {
		err = c.raw.Read(c.take)
	}
	c.p = nil
	switch {
	case err != nil: // a deadline, or closed
		return 0, err
	case c.err != nil:
		return 0, c.err
	case c.n == 0:
		return 0, io.EOF
	}
	c.drained = c.patient && c.n < len(p)
	return c.n, nil
}

// Write writes all of p, which may take as long as the other end takes to read.
func (c *Conn) Write(p []byte) (int, error) {
	if c.raw == nil || len(p) == 0 {
		return c.Conn.Write(p)
	}
	return c.out.write(c.Conn, p)
}

// Await waits until there may be something for Read to return: data, the end, an error, or a passed read deadline. It returns quiet
// if none of this happens within limit, or up to a quarter longer, unless limit is 0.
func (c *Conn) Await(limit time.Duration) (quiet bool) {
	if !c.patient {
		return false
	}
	c.drained, c.looked = false, false
	if limit > 0 {
		c.alarmAfter(limit)
	}
	for c.lapsed(c.raw.Read(c.look)) {
		if limit > 0 {
			return true
		}
	}
	return false // Read returns the error
}

// alarmAfter sets the deadline for quiet, unless there is one from SetReadDeadline, which takes precedence. It stays when something has
// arrived, and is set again only when it is too early or too late: setting it costs as much as a system call.
func (c *Conn) alarmAfter(limit time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := time.Now().Add(limit)
	last := first.Add(limit / 4)
	if c.bounded || !c.alarm.Before(first) && !c.alarm.After(last) {
		return
	}
	c.alarm = last
	c.Conn.SetReadDeadline(c.alarm)
}

// lapsed reports whether err means that the deadline of alarmAfter has passed, which it then removes.
func (c *Conn) lapsed(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alarm.IsZero() {
		return false // it is another one
	}
	c.alarm = time.Time{}
	c.Conn.SetReadDeadline(c.alarm)
	return true
}

// SetReadDeadline limits Read and Await, and ends the wait in a lobby. It is safe for concurrent use.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.bounded, c.alarm = !t.IsZero(), time.Time{}
	err := c.Conn.SetReadDeadline(t)
	c.mu.Unlock()
	c.rouse()
	return err
}

// Close closes the connection. It is safe for concurrent use.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.rouse()
	return c.Conn.Close()
}

// Unsent returns how many bytes the other end's system has not acknowledged, or 0 if that is not known.
func (c *Conn) Unsent() int { return unsent(c.Conn) }

// CloseWrite closes the writing side.
func (c *Conn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return errors.ErrUnsupported
}
