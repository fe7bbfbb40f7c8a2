package turn

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// recordHandshake is the first byte of every TLS connection: the content type of a ClientHello's record (RFC 8446 section
// 5.1). A STUN message begins with two zero bits, so it cannot be one: 0x16 would be a method above 0xB00, of which IANA has
// assigned none, and RFC 7983 keeps the two apart in the same way.
const recordHandshake = 0x16

// detectListener accepts TURN over plain TCP and over TLS on one port.
type detectListener struct {
	net.Listener
	config *tls.Config
}

// Accept returns a connection that finds out in HandshakeContext what it carries, so that a client that sends nothing does
// not keep others from being accepted.
func (l detectListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &detectConn{Conn: conn, config: l.config}, nil
}

// detectConn is one connection of a detectListener. Nothing may be read or written before HandshakeContext has returned.
// Deadlines may be set at any time: they are those of the connection underneath.
type detectConn struct {
	net.Conn
	config  *tls.Config
	carried net.Conn // what is read and written; nil before HandshakeContext has returned
}

// HandshakeContext waits for the first byte and, if the client speaks TLS, does the handshake. It ends when ctx does.
func (c *detectConn) HandshakeContext(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	first := make([]byte, 1)
	_, err := c.Conn.Read(first)
	if !stop() {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	peeked := &peekedConn{Conn: c.Conn, first: first}
	if first[0] != recordHandshake {
		c.carried = peeked
		return nil
	}
	encrypted := tls.Server(peeked, c.config)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		return err
	}
	c.carried = encrypted
	return nil
}

// Encrypted reports whether the client speaks TLS, once HandshakeContext has returned.
func (c *detectConn) Encrypted() bool {
	_, encrypted := c.carried.(*tls.Conn)
	return encrypted
}

func (c *detectConn) Read(p []byte) (int, error)  { return c.carried.Read(p) }
func (c *detectConn) Write(p []byte) (int, error) { return c.carried.Write(p) }

// Close closes the connection. It is for the goroutine that called HandshakeContext, or after that has returned.
func (c *detectConn) Close() error {
	if c.carried == nil {
		return c.Conn.Close()
	}
	return c.carried.Close()
}

// peekedConn gives back the byte that was read ahead.
type peekedConn struct {
	net.Conn
	first []byte
}

func (c *peekedConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}
