package shared

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"

	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/turnsrv"
)

// Conn is a connection for an endpoint. Its addresses are those in the PROXY header, if there was one.
//
// The port has read the beginning, which Read returns first unless TakeAhead has. It belongs to the handshake, so after that, the
// socket may be read without Read.
type Conn struct {
	net.Conn // the socket
	ahead    []byte
	origin   origin.Origin
	secured  *Secured
}

// Of returns conn as a Conn if it comes from a port, and nil otherwise.
func Of(conn net.Conn) *Conn {
	c, _ := conn.(*Conn)
	return c
}

// Origin returns where the client is.
func (c *Conn) Origin() origin.Origin { return c.origin }

// Secured returns the TLS connection if the port has performed the handshake, or nil if that is left to the endpoint.
func (c *Conn) Secured() *Secured { return c.secured }

// TakeAhead returns what the port has read, and makes Read return only what follows: for an endpoint that reads from the socket.
func (c *Conn) TakeAhead() []byte {
	ahead := c.ahead
	c.ahead = nil
	return ahead
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.origin.Client) }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.origin.Server) }

// NetConn returns the socket, for a worker of the relay.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// SyscallConn implements syscall.Conn.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if conn, ok := c.Conn.(syscall.Conn); ok {
		return conn.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// CloseWrite closes the writing side of the socket.
func (c *Conn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetKeepAliveConfig is that of the socket.
func (c *Conn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	if conn, ok := c.Conn.(*net.TCPConn); ok {
		return conn.SetKeepAliveConfig(config)
	}
	return errors.ErrUnsupported
}

// Secured is a TLS connection after its handshake, over a Conn.
type Secured struct {
	*tls.Conn
	under *turnsrv.Conn // what TLS reads from and writes to: a Conn
	early []byte        // decrypted already
}

// Read returns what has been decrypted already, and then what follows.
func (s *Secured) Read(p []byte) (int, error) {
	if len(s.early) > 0 {
		n := copy(p, s.early)
		s.early = s.early[n:]
		return n, nil
	}
	return s.Conn.Read(p)
}

// Early returns what Read returns first.
func (s *Secured) Early() []byte { return s.early }

// NetConn returns the TLS connection.
func (s *Secured) NetConn() net.Conn { return s.Conn }

// Over makes TLS read from and write to conn, which must be over the same Conn. It is called before anything else is.
func (s *Secured) Over(conn net.Conn) { s.under.Conn = conn }
