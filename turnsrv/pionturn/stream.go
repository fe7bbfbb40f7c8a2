package pionturn

import (
	"bufio"
	"container/list"
	"io"
	"net"
	"sync/atomic"

	"github.com/mailturn/mailturn/turnsrv/internal/framing"
)

// minFrame is how many bytes pion's own framing waits for before it looks at a message. ChannelData may be shorter.
const minFrame = 9

// filler is a Binding indication, which pion drops. It follows a message that is shorter than minFrame, which would otherwise
// wait for the next one.
const filler = "\x00\x11\x00\x00\x21\x12\xa4\x42\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// stream is a client's TCP or TLS connection as pion sees it: each Read returns one whole message, so that what pion's own
// framing does with parts of messages, and with lengths that are lies, does not come up.
type stream struct {
	net.Conn
	listener       *listener
	client, server net.Addr      // pion knows the connection by client, the very pointer; nil before the handshake is over
	has            atomic.Bool   // an allocation
	place          *list.Element // among those that have none; guarded by the listener's mutex

	// What follows is owned by pion's goroutine that reads.
	reader *bufio.Reader
	first  bool // message
	fill   bool // filler comes next
}

// Read implements net.Conn. A message that does not fit p is dropped as a whole. On a connection without an allocation it ends
// the connection: nobody is authenticated there, and honest requests are shorter.
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

// LocalAddr returns the address that the client has connected to.
func (c *stream) LocalAddr() net.Addr { return c.server }

// Close closes the connection. pion does so when there is nothing more to read.
func (c *stream) Close() error {
	c.listener.forget(c)
	return c.Conn.Close()
}
