package imap

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/patient"
)

const (
	// byeTimeout limits the writing of a BYE.
	byeTimeout = 5 * time.Second
	// lingerTimeout is how long lingeringClose waits for a client that has received everything, and lingerBytes how much it reads
	// meanwhile.
	lingerTimeout = time.Second
	lingerBytes   = 64 * 1024
)

// A clientConn is the client's connection, which TLS and compression replace. One goroutine reads and replaces it; the filter
// allows one writer at a time.
type clientConn struct {
	raw     *patient.Conn
	present atomic.Pointer[net.Conn] // raw, or TLS on it, or compression on either
	writing atomic.Bool
}

func newClientConn(raw *patient.Conn) *clientConn {
	c := &clientConn{raw: raw}
	c.replace(raw)
	return c
}

func (c *clientConn) replace(conn net.Conn) { c.present.Store(&conn) }

func (c *clientConn) Read(p []byte) (int, error) { return (*c.present.Load()).Read(p) }

// Write has no deadline: see session.timeOut.
func (c *clientConn) Write(p []byte) (int, error) {
	c.writing.Store(true)
	defer c.writing.Store(false)
	return (*c.present.Load()).Write(p)
}

// lingeringClose closes the connection after the last response: first the writing side, then the rest, after the client has closed
// its side or has had time to. Closing with unread bytes makes TCP reset the connection, and the client loses what it has not
// received yet, which may be the end of a large message. So lingeringClose waits while the client keeps receiving, with pauses
// shorter than stall; if stall is 0, it waits only briefly.
func (c *clientConn) lingeringClose(stall time.Duration) {
	defer c.raw.Close()
	closer, ok := (*c.present.Load()).(interface{ CloseWrite() error })
	if !ok || closer.CloseWrite() != nil {
		return
	}
	waiting, progressed := c.raw.Unsent(), time.Now()
	for {
		c.raw.SetReadDeadline(time.Now().Add(lingerTimeout))
		_, err := io.CopyN(io.Discard, c.raw.Conn, lingerBytes)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if left := c.raw.Unsent(); left != waiting {
			waiting, progressed = left, time.Now()
		}
		if waiting == 0 || time.Since(progressed) >= stall {
			return
		}
	}
}

// sayBye writes an untagged BYE (RFC 9051 section 7.1.5) to a client that has been sent nothing else, and closes the connection.
func (c *clientConn) sayBye(text string) {
	c.raw.SetWriteDeadline(time.Now().Add(byeTimeout))
	if _, err := io.WriteString(c, "* BYE "+text+"\r\n"); err != nil {
		return
	}
	c.lingeringClose(0)
}

// sayByeAtOnce is sayBye without waiting for the client to close: the line fits into TCP's send buffer.
func (c *clientConn) sayByeAtOnce(text string) {
	c.raw.SetWriteDeadline(time.Now().Add(byeTimeout))
	io.WriteString(c, "* BYE "+text+"\r\n")
	c.raw.Close()
}
