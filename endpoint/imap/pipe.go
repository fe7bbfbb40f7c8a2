package imap

import (
	"io"
	"net"
	"sync"
	"time"
)

// A pipeConn is one end of an in-process connection that, unlike net.Pipe, can be closed in one direction. It has no
// buffer: a Write returns when the other end has read all of it. It has no deadlines either; the session in front of it
// closes it.
type pipeConn struct {
	*io.PipeReader
	w      *io.PipeWriter
	remote net.Addr
}

// A pipeBackendConn is the client's end as a backendConn.
type pipeBackendConn struct {
	*pipeConn
	awaited bool // and nothing read since
}

// newPipe returns the two ends of a connection. clientAddr is what the second, the server's, names as its peer.
func newPipe(clientAddr net.Addr) (client *pipeBackendConn, server *pipeConn) {
	toServerReader, toServer := io.Pipe()
	toClientReader, toClient := io.Pipe()
	return &pipeBackendConn{pipeConn: &pipeConn{toClientReader, toServer, pipeAddr{}}}, &pipeConn{toServerReader, toClient, clientAddr}
}

// await waits for a write of the other end, of which it takes nothing, or for its end. It has no limit.
func (c *pipeBackendConn) await(time.Duration) (quiet bool) {
	c.awaited = true
	c.pipeConn.Read(nil)
	return false
}

func (c *pipeBackendConn) unsent() int { return 0 }

func (c *pipeBackendConn) Read(p []byte) (int, error) {
	if !c.awaited {
		return 0, errNothingYet
	}
	c.awaited = false
	return c.pipeConn.Read(p)
}

func (c *pipeConn) Write(p []byte) (int, error) { return c.w.Write(p) }

// CloseWrite lets the other end read io.EOF after what was written.
func (c *pipeConn) CloseWrite() error { return c.w.Close() }

// Close ends both directions: the other end reads io.EOF, and its writes fail.
func (c *pipeConn) Close() error {
	c.w.Close()
	return c.PipeReader.Close()
}

func (c *pipeConn) LocalAddr() net.Addr              { return pipeAddr{} }
func (c *pipeConn) RemoteAddr() net.Addr             { return c.remote }
func (c *pipeConn) SetDeadline(time.Time) error      { return nil }
func (c *pipeConn) SetReadDeadline(time.Time) error  { return nil }
func (c *pipeConn) SetWriteDeadline(time.Time) error { return nil }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "embedded" }

// A pipeListener hands the server's ends of pipes to a server's accept loop.
type pipeListener struct {
	conns     chan net.Conn
	closed    chan struct{} // closed by Close, which is called once
	accepting chan struct{} // closed by the first Accept
	first     sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{}), accepting: make(chan struct{})}
}

// offer gives conn to the accept loop, or returns net.ErrClosed.
func (l *pipeListener) offer(conn net.Conn) error {
	select {
	case l.conns <- conn:
		return nil
	case <-l.closed:
		return net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	l.first.Do(func() { close(l.accepting) })
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }
