package pionturn

import (
	"bufio"
	"container/list"
	"io"
	"net"
	"sync/atomic"

	"github.com/mailturn/mailturn/turnsrv/internal/framing"
)

// minFrame is the number of bytes that pion's framing waits for before it processes a message. ChannelData may be shorter.
const minFrame = 9

// filler is a Binding indication, which pion ignores. It follows each message that is shorter than minFrame, which would otherwise
// wait for the next one.
const filler = "\x00\x11\x00\x00\x21\x12\xa4\x42\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// stream is a client's TCP or TLS connection as pion sees it. Each Read returns one whole message, so that pion's framing never
// processes incomplete messages or false lengths.
type stream struct {
	net.Conn
	listener       *listener
	client, server net.Addr      // nil before the end of the handshake; the pointer in client identifies the connection to pion
	has            atomic.Bool   // an allocation
	place          *list.Element // in listener.unallocated, or nil; guarded by the listener's mutex

	// What follows is owned by pion's goroutine that reads.
	reader *bufio.Reader
	first  bool // no message has been read yet
	fill   bool // the next Read returns filler
}

// Read implements net.Conn. It drops a message that does not fit in p. If the connection has no allocation, such a message ends the
// connection: the client is unauthenticated, and genuine requests are shorter.
func (c *stream) Read(p []byte) (int, error) {
	if c.fill {
		c.fill = false
		return copy(p, filler), nil
	}
	c.listener.pion.forget(c.client)
	for {
		n, err := framing.Next(c.reader, c.first)
		if err != nil {
			return 0, err
		}
		c.first = false
		if n > len(p) {
			if !c.has.Load() {
				return 0, framing.Err
			}
			if _, err := c.reader.Discard(n); err != nil {
				return 0, err
			}
			continue
		}
		if _, err := io.ReadFull(c.reader, p[:n]); err != nil {
			return 0, err
		}
		c.fill = n < minFrame
		c.listener.pion.take(c.client, p[:n])
		return n, nil
	}
}

// RemoteAddr returns the client's address, always the same pointer.
func (c *stream) RemoteAddr() net.Addr { return c.client }

// LocalAddr returns the address that the client connected to.
func (c *stream) LocalAddr() net.Addr { return c.server }

// Close closes the connection. pion calls it when Read has returned an error.
func (c *stream) Close() error {
	c.listener.forget(c)
	return c.Conn.Close()
}
