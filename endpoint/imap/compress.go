package imap

import (
	"bytes"
	"errors"
	"net"
	"sync"

	"github.com/mailturn/mailturn/endpoint/imap/deflate"
)

// A compressedConn is the client's connection after COMPRESS (RFC 4978), raw or over TLS. One goroutine reads, and one at a time
// writes.
type compressedConn struct {
	net.Conn
	inflater deflate.Inflater
	unread   []byte     // read, but not inflated yet
	buffer   readBuffer // holds unread
	read     int        // how much the last read put into it

	deflater deflate.Deflater
}

// newCompressedConn returns conn with both directions compressed from now on. begun is the part of the client's compressed stream
// that has already been read; it is copied.
func newCompressedConn(conn net.Conn, begun []byte) *compressedConn {
	unread := bytes.Clone(begun)
	if before, ok := conn.(*uncompressedConn); ok {
		conn, unread = before.Conn, append(unread, before.rest()...)
	}
	return &compressedConn{Conn: conn, unread: unread}
}

// Read inflates no more than fits into p, however much the stream expands. After an error such as a deadline, or because nothing
// has arrived yet, the next call continues where this one stopped. The end of the compressed stream is the end of the connection:
// bytes after it are not read.
func (c *compressedConn) Read(p []byte) (int, error) {
	for {
		n, used, err := c.inflater.Inflate(p, c.unread)
		c.unread = c.unread[used:]
		switch {
		case n > 0:
			return n, nil // the next call returns err
		case err != nil || len(p) == 0:
			return 0, err
		case len(c.unread) > 0: // after a flush
			continue
		}
		if err := c.readMore(); err != nil {
			return 0, err
		}
	}
}

// An uncompressedConn is the client's connection after UNAUTHENTICATE has ended compression.
type uncompressedConn struct {
	net.Conn
	// before is the compressed connection, while some of its stream may still have to be read: the end of the flush by which the client
	// sent UNAUTHENTICATE.
	before *compressedConn
}

// rest returns the part of the client's stream that has been read but not returned by Read.
func (c *uncompressedConn) rest() []byte {
	if c.before == nil {
		return nil
	}
	return c.before.unread
}

func newUncompressedConn(before *compressedConn) *uncompressedConn {
	return &uncompressedConn{before.Conn, before}
}

func (c *uncompressedConn) Read(p []byte) (int, error) {
	if c.before != nil {
		if err := c.before.readFlush(); err != nil {
			return 0, err
		}
		if n := copy(p, c.before.unread); n > 0 {
			c.before.unread = c.before.unread[n:]
			return n, nil
		}
		c.before.buffer.release()
		c.before = nil
	}
	return c.Conn.Read(p)
}

// CloseWrite closes the connection's writing side.
func (c *uncompressedConn) CloseWrite() error {
	conn, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return conn.CloseWrite()
}

// readFlush reads up to where the client flushed or ended its stream. What is in unread after that is no longer compressed.
func (c *compressedConn) readFlush() error {
	for !c.inflater.Flushed() {
		n, used, err := c.inflater.Inflate(make([]byte, 1), c.unread)
		c.unread = c.unread[used:]
		switch {
		case n > 0:
			return deflate.ErrCorrupt // commands in a stream that should have ended
		case err != nil:
			return err
		case c.inflater.Flushed():
			continue
		}
		if err := c.readMore(); err != nil {
			return err
		}
	}
	return nil
}

// readMore reads what has arrived of the compressed stream. Everything read before must have been inflated.
func (c *compressedConn) readMore() error {
	buf := c.buffer.next(c.read, true)
	n, err := c.Conn.Read(buf)
	c.read, c.unread = n, buf[:n]
	if n == 0 && err != nil {
		c.buffer.release()
		return err
	}
	return nil
}

// deflateSize is how much is compressed in one step.
const deflateSize = 16 * 1024

// outputs holds the buffers of compressedConn.Write between uses.
var outputs = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Write compresses p and flushes it, so that the client can read all of it immediately.
func (c *compressedConn) Write(p []byte) (written int, err error) {
	out := outputs.Get().(*bytes.Buffer)
	defer outputs.Put(out)
	for written < len(p) {
		n := min(len(p)-written, deflateSize)
		out.Reset()
		c.deflater.Deflate(out, p[written:written+n])
		if _, err := c.Conn.Write(out.Bytes()); err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// CloseWrite ends the compressed stream with an empty last block (RFC 1951 section 3.2.6), and then closes the connection's writing
// side.
func (c *compressedConn) CloseWrite() error {
	conn, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	if _, err := c.Conn.Write([]byte{0x03, 0x00}); err != nil {
		return err
	}
	return conn.CloseWrite()
}
