// Package pipe provides in-process connections that can be half-closed.
package pipe

import (
	"io"
	"net"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/patient"
)

// A Conn is one end of an in-process connection that, unlike one of net.Pipe, can be closed in one direction. It has no buffer: a
// Write returns after the other end has read all of it. It has no deadlines either; the session that uses it closes it.
type Conn struct {
	*io.PipeReader
	w      *io.PipeWriter
	remote net.Addr
}

// A ClientConn is the client's end as a backend.Conn.
type ClientConn struct {
	*Conn
	awaited bool // Await has returned, and nothing has been read since
}

// New returns the two ends of a connection. clientAddr is the remote address of the server's end.
func New(clientAddr net.Addr) (client *ClientConn, server *Conn) {
	toServerReader, toServer := io.Pipe()
	toClientReader, toClient := io.Pipe()
	return &ClientConn{Conn: &Conn{toClientReader, toServer, addr{}}}, &Conn{toServerReader, toClient, clientAddr}
}

// Await waits until the other end writes or closes, without reading anything. It ignores the limit.
func (c *ClientConn) Await(time.Duration) (quiet bool) {
	c.awaited = true
	c.Conn.Read(nil)
	return false
}

// Rest calls f in another goroutine after Await. It does not use the lobby, because there is no socket to wait for.
func (c *ClientConn) Rest(_ *patient.Lobby, f func()) {
	go func() {
		c.Await(0)
		f()
	}()
}

// Unsent returns 0: a write returns after all of it has been read.
func (c *ClientConn) Unsent() int { return 0 }

func (c *ClientConn) Read(p []byte) (int, error) {
	if !c.awaited {
		return 0, patient.ErrNothingYet
	}
	c.awaited = false
	return c.Conn.Read(p)
}

func (c *Conn) Write(p []byte) (int, error) { return c.w.Write(p) }

// CloseWrite makes the other end read io.EOF after what was written.
func (c *Conn) CloseWrite() error { return c.w.Close() }

// Close ends both directions: the other end reads io.EOF, and its writes fail.
func (c *Conn) Close() error {
	c.w.Close()
	return c.PipeReader.Close()
}

func (c *Conn) LocalAddr() net.Addr              { return addr{} }
func (c *Conn) RemoteAddr() net.Addr             { return c.remote }
func (c *Conn) SetDeadline(time.Time) error      { return nil }
func (c *Conn) SetReadDeadline(time.Time) error  { return nil }
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

type addr struct{}

func (addr) Network() string { return "pipe" }
func (addr) String() string  { return "embedded" }
