package embedded

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
)

// maxCommandText bounds the text of one command to the embedded server, without its literals. RFC 9051 has no figure, RFC 2683
// section 3.2.1.5 asks for 8000 bytes. go-imap stops in the middle at 50 KiB, and reads the rest as the next command.
const maxCommandText = 48 * 1024

// A serverConn is the server's end of a pipe as go-imap's server sees it. It protects the server from three things: a command that
// is too long, which ends the connection; the end of the session in the middle of a response (see Write); and a client that waits
// after announcing a literal that is too long for a command other than APPEND. In that case go-imap continues to read the command
// before it refuses it (imapwire.Decoder.AString tries an atom next), while the client waits for the answer and sends nothing. The
// line end that this type inserts makes it end the command with BAD.
//
// The last requires that go-imap handles one command at a time, and that imapext passes nothing from the client after a literal's
// announcement until it is answered. Only one goroutine may read.
type serverConn struct {
	net.Conn
	r         *bufio.Reader
	tail      []byte // the end of the line that is being read, as much as an announcement takes
	text      int    // bytes of the present command's text so far
	announced bool   // a literal of size bytes, by the last line that was handed out
	size      int64
	literal   int64        // what is left to return of a literal
	answered  atomic.Int32 // since the announcement: one of the constants below
}

const (
	notAnswered int32 = iota
	literalGranted
	literalRefused
)

// maxAnnouncement is longer than {18446744073709551615+} and a line end.
const maxAnnouncement = 32

func newServerConn(conn net.Conn) *serverConn {
	return &serverConn{Conn: conn, r: bufio.NewReader(conn)}
}

func (c *serverConn) Read(p []byte) (int, error) {
	if c.announced {
		c.announced = false
		switch c.answered.Load() {
		case literalGranted:
			c.literal = c.size
		case notAnswered:
			return copy(p, "\n"), nil
		}
	}
	if c.literal > 0 {
		n, err := c.r.Read(p[:min(int64(len(p)), c.literal)])
		c.literal -= int64(n)
		return n, err
	}
	n, err := c.readLine(p)
	if c.text += n; c.text > maxCommandText {
		fmt.Fprint(c.Conn, "* BYE Command is too long\r\n")
		return 0, io.EOF
	}
	if c.size, c.announced = announcedLiteral(c.tail); c.announced {
		c.answered.Store(notAnswered)
	} else if bytes.HasSuffix(c.tail, []byte("\n")) {
		c.text = 0
	}
	return n, err
}

// readLine reads no further than to the end of the line, and keeps its last bytes in c.tail.
func (c *serverConn) readLine(p []byte) (int, error) {
	if _, err := c.r.Peek(1); err != nil {
		return 0, err
	}
	buffered, err := c.r.Peek(min(c.r.Buffered(), len(p)))
	if err != nil {
		return 0, err
	}
	if bytes.HasSuffix(c.tail, []byte("\n")) {
		c.tail = c.tail[:0]
	}
	if end := bytes.IndexByte(buffered, '\n'); end >= 0 {
		buffered = buffered[:end+1]
	}
	n := copy(p, buffered)
	if c.tail = append(c.tail, p[max(0, n-maxAnnouncement):n]...); len(c.tail) > maxAnnouncement {
		c.tail = append(c.tail[:0], c.tail[len(c.tail)-maxAnnouncement:]...)
	}
	_, err = c.r.Discard(n)
	return n, err
}

// announcedLiteral returns the size of the literal that line announces at its end (RFC 9051 section 4.3). Like go-imap, it accepts
// a bare LF, and a space before the line end.
func announcedLiteral(line []byte) (size int64, ok bool) {
	line, whole := bytes.CutSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	line = bytes.TrimSuffix(line, []byte(" "))
	line, closed := bytes.CutSuffix(line, []byte("}"))
	start := bytes.LastIndexByte(line, '{')
	if !whole || !closed || start < 0 {
		return 0, false
	}
	size, err := strconv.ParseInt(string(bytes.TrimSuffix(line[start+1:], []byte("+"))), 10, 64)
	return size, err == nil
}

// Write notes go-imap's answer to an announcement. go-imap flushes after every line, so an answer begins a write.
//
// It does not fail: after the session has ended, its output is discarded until Read returns an error. On an error of a write,
// imapmemserver leaves a FETCH response open and with it go-imap's lock on the output, for which its goroutine would then
// wait forever.
func (c *serverConn) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("+ ")) {
		c.answered.Store(literalGranted)
	} else {
		c.answered.Store(literalRefused)
	}
	c.Conn.Write(p)
	return len(p), nil
}
