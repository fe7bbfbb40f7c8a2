package link

import (
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// maxRecord is the length of the longest plaintext of a TLS record, RFC 8446 section 5.1.
const maxRecord = 16 << 10

// Conn is a connection whose socket can move from Go's network poller to an event loop, even if a tls.Conn wraps it. Until then it
// behaves like the connection that NewConn was given. Only the goroutine that reads may call Peek.
type Conn struct {
	net.Conn
	ahead []byte     // bytes that Peek has read
	hands *handshake // during a handshake, if it is limited; owned by the goroutine that performs it

	polled atomic.Pointer[polledConn] // what is read from and written to once the socket has moved
}

// NewConn returns a Conn over conn. The socket can move if conn is a *net.TCPConn.
func NewConn(conn net.Conn) *Conn { return &Conn{Conn: conn} }

// Peek waits for the next byte and returns it without consuming it.
func (c *Conn) Peek() (byte, error) {
	if len(c.ahead) == 0 {
		b := make([]byte, 1)
		if _, err := c.read(b); err != nil {
			return 0, err
		}
		c.ahead = b
	}
	return c.ahead[0], nil
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if polled := c.polled.Load(); polled != nil {
		return polled.read(p)
	}
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.read(p)
}

// read reads from the connection under c. A limited handshake frees its slot meanwhile.
func (c *Conn) read(p []byte) (int, error) {
	if c.hands == nil {
		return c.Conn.Read(p)
	}
	c.hands.end()
	n, err := c.Conn.Read(p)
	if err != nil {
		return n, err
	}
	return n, c.hands.begin()
}

// limit makes c part of a limited handshake, or of none if h is nil.
func (c *Conn) limit(h *handshake) { c.hands = h }

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	if polled := c.polled.Load(); polled != nil {
		return polled.write(p)
	}
	return c.Conn.Write(p)
}

// polledConn takes the place of a socket for a tls.Conn. It is owned by the goroutine of a loop, which reads from the socket and
// writes to it.
type polledConn struct {
	in  []byte // received and not yet read
	out func([]byte)
}

// read returns errLater when everything has been read, which does not end a tls.Conn.
func (c *polledConn) read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, errLater{}
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *polledConn) write(p []byte) (int, error) {
	c.out(p)
	return len(p), nil
}

// errLater is the error of reading from a connection that has nothing to read at present. A tls.Conn keeps what it has read of a
// record and continues later, because Temporary returns true.
type errLater struct{}

var _ net.Error = errLater{}

func (errLater) Error() string   { return "nothing to read at present" }
func (errLater) Timeout() bool   { return true }
func (errLater) Temporary() bool { return true }

// NewTLSListener is like tls.NewListener, but the sockets of its connections can move to an event loop.
func NewTLSListener(inner net.Listener, config *tls.Config) net.Listener {
	return &tlsListener{inner, config}
}

type tlsListener struct {
	net.Listener
	config *tls.Config
}

// SetDeadline implements deadliner.
func (l *tlsListener) SetDeadline(t time.Time) error {
	if timed, ok := l.Listener.(deadliner); ok {
		return timed.SetDeadline(t)
	}
	return errors.ErrUnsupported
}

func (l *tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(NewConn(conn), l.config), nil
}

// layers are the connections that one consists of.
type layers struct {
	encrypted *tls.Conn    // nil if it is not encrypted
	early     []byte       // decrypted before, by what wraps encrypted
	movable   *Conn        // nil if there is none
	socket    *net.TCPConn // nil if it is not known
}

// layersOf unwraps conn. Connections of other types are unwrapped with their method NetConn, if they have one. A method Early returns
// the plain text that has been read from the TLS connection underneath.
func layersOf(conn net.Conn) (l layers) {
	for {
		if c, ok := conn.(interface{ Early() []byte }); ok {
			l.early = c.Early()
		}
		switch c := conn.(type) {
		case *net.TCPConn:
			l.socket = c
			return l
		case *Conn:
			l.movable, conn = c, c.Conn
		case *tls.Conn:
			l.encrypted, conn = c, c.NetConn()
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return layers{}
		}
	}
}
