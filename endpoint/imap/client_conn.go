package imap

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	// defaultWriteTimeout bounds one write to either side: who does not read ends the session.
	defaultWriteTimeout = time.Minute
	// lingerTimeout and lingerBytes bound lingeringClose.
	lingerTimeout = time.Second
	lingerBytes   = 64 * 1024
)

// A clientConn is the client's connection, which TLS and compression replace. One goroutine reads it and replaces it; the filter lets one
// write at a time.
type clientConn struct {
	raw          *patientConn
	present      atomic.Pointer[net.Conn] // raw, or TLS on it, or compression on either
	writeTimeout time.Duration
}

func newClientConn(raw *patientConn, writeTimeout time.Duration) *clientConn {
	c := &clientConn{raw: raw, writeTimeout: writeTimeout}
	c.replace(raw)
	return c
}

func (c *clientConn) replace(conn net.Conn) { c.present.Store(&conn) }

func (c *clientConn) Read(p []byte) (int, error) { return (*c.present.Load()).Read(p) }

// Write writes within writeTimeout.
func (c *clientConn) Write(p []byte) (int, error) {
	c.raw.SetWriteDeadline(time.Now().Add(c.writeTimeout))
	return (*c.present.Load()).Write(p)
}

// lingeringClose closes the connection after the last words to the client: first the writing side, then, when the client
// has closed its own, or after a moment, the rest. Closing at once while there are unread bytes makes TCP reset the
// connection, and the client may lose what was said.
func (c *clientConn) lingeringClose() {
	defer c.raw.Close()
	closer, ok := (*c.present.Load()).(interface{ CloseWrite() error })
	if !ok || closer.CloseWrite() != nil {
		return
	}
	c.raw.SetReadDeadline(time.Now().Add(lingerTimeout))
	io.CopyN(io.Discard, c.raw.Conn, lingerBytes)
}

// sayBye writes an untagged BYE (RFC 9051 section 7.1.5) to a client that has been told nothing else, and closes.
func (c *clientConn) sayBye(text string) {
	if _, err := io.WriteString(c, "* BYE "+text+"\r\n"); err != nil {
		return
	}
	c.lingeringClose()
}

// sayByeAtOnce is sayBye without waiting for the client to close: its bytes fit what TCP takes at once.
func (c *clientConn) sayByeAtOnce(text string) {
	io.WriteString(c, "* BYE "+text+"\r\n")
	c.raw.Close()
}

// A backendWriter writes to the backend within timeout.
type backendWriter struct {
	conn    net.Conn
	timeout time.Duration
}

func (w backendWriter) Write(p []byte) (int, error) {
	w.conn.SetWriteDeadline(time.Now().Add(w.timeout))
	return w.conn.Write(p)
}
