package imap

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/mailturn/mailturn/imapext/deflate"
)

// A compressedConn is the client's connection after COMPRESS (RFC 4978), raw or over TLS. One goroutine reads it, and one at
// a time writes.
type compressedConn struct {
	net.Conn
	inflater deflate.Inflater
	unread   []byte     // has been read and not inflated
	buffer   readBuffer // holds unread
	read     int        // what the last read put into it

	deflater deflate.Deflater
}

// newCompressedConn returns conn with both directions compressed from now on. begun is what has been read of the client's
// compressed stream; it is not kept.
func newCompressedConn(conn net.Conn, begun []byte) *compressedConn {
	return &compressedConn{Conn: conn, unread: bytes.Clone(begun)}
}

// Read inflates into p no more than fits, however much the stream would make. When reading fails for a deadline, or because
// nothing has come yet, it goes on where it was at the next call. An end of the compressed stream is that of the connection: what follows it is not read.
func (c *compressedConn) Read(p []byte) (int, error) {
	for {
		n, used, err := c.inflater.Inflate(p, c.unread)
		c.unread = c.unread[used:]
		switch {
		case n > 0:
			return n, nil // err comes again
		case err != nil || len(p) == 0:
			return 0, err
		}
		buf := c.buffer.next(c.read)
		n, err = c.Conn.Read(buf)
		c.read, c.unread = n, buf[:n]
		if n == 0 && err != nil {
			c.buffer.release()
			return 0, err
		}
	}
}

// deflateSize is how much is compressed at once.
const deflateSize = 16 * 1024

// outputs are the *bytes.Buffer of compressedConn.Write between their uses.
var outputs = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Write compresses p and writes it so that the client can read all of it at once.
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

// CloseWrite ends the compressed stream, by an empty last block (RFC 1951 section 3.2.6), and then the connection's.
func (c *compressedConn) CloseWrite() error {
	conn, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	c.SetWriteDeadline(time.Now().Add(lingerTimeout))
	if _, err := c.Conn.Write([]byte{0x03, 0x00}); err != nil {
		return err
	}
	return conn.CloseWrite()
}
