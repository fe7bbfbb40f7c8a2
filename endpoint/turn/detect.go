package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv"
)

// recordHandshake is the first byte of every TLS connection: the content type of a ClientHello's record (RFC 8446 section 5.1). As
// the first byte of a STUN message, 0x16 would mean a method above 0xB00, of which IANA has assigned none; RFC 7983 distinguishes
// the two in the same way.
const recordHandshake = 0x16

// streamListener accepts connections whose first bytes tell what they carry: TURN over plain TCP or over TLS on one port, and
// connections of proxies.
type streamListener struct {
	net.Listener
	config  *tls.Config // nil without TLS
	plain   bool        // clients that do not encrypt are served too
	proxies listen.Networks
	refused func(proxy netip.Addr, err error) // called for connections from proxies without a header
}

// SetDeadline makes Accept return: see turnsrv.Server.Suspend.
func (l *streamListener) SetDeadline(t time.Time) error {
	if timed, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		return timed.SetDeadline(t)
	}
	return errors.ErrUnsupported
}

// Accept returns a connection that finds out in HandshakeContext what it carries, so that a client that sends nothing does
// not keep others from being accepted.
func (l *streamListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &streamConn{Conn: turnsrv.NewConn(conn), listener: l, client: conn.RemoteAddr(), server: conn.LocalAddr()}, nil
}

// streamConn is one connection of a streamListener. Nothing may be read or written before HandshakeContext has returned.
// Deadlines may be set at any time: they are those of the connection underneath.
type streamConn struct {
	*turnsrv.Conn
	listener       *streamListener
	carried        net.Conn // nil before HandshakeContext has returned
	client, server net.Addr // the two ends, as a proxy's header has them if there was one
}

// HandshakeContext reads the PROXY header if the connection has to begin with one, waits for the first byte if that tells
// whether the client speaks TLS, and does the handshake if so. It ends when ctx does.
func (c *streamConn) HandshakeContext(ctx context.Context) error {
	if from := shared.Of(c.Conn.Conn); from != nil && from.Secured() != nil {
		c.carried = from.Secured() // the port has done all this
		return nil
	}
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	encrypted, err := c.begin()
	if !stop() {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	if !encrypted {
		c.carried = c.Conn
		return nil
	}
	tlsConn := tls.Server(c.Conn, c.listener.config)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return err
	}
	c.carried = tlsConn
	return nil
}

// begin reads the PROXY header if there is one, and reports whether the client speaks TLS.
func (c *streamConn) begin() (encrypted bool, err error) {
	l := c.listener
	if proxy := addrOf(c.client); l.proxies.Contains(proxy) {
		header, err := listen.ReadProxyHeader(c.Conn)
		if err != nil {
			if !errors.Is(err, io.EOF) { // a proxy's health check
				l.refused(proxy, err)
			}
			return false, err
		}
		if header.Client.IsValid() {
			c.client, c.server = net.TCPAddrFromAddrPort(header.Client), net.TCPAddrFromAddrPort(header.Server)
		}
	}
	if l.config == nil || !l.plain {
		return l.config != nil, nil
	}
	first, err := c.Peek()
	return first == recordHandshake, err
}

// addrOf returns the IP address of a TCP peer, unmapped, because dual-stack sockets have IPv4-mapped addresses.
func addrOf(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// RemoteAddr returns the client's address, after HandshakeContext that in the PROXY header, if there is one.
func (c *streamConn) RemoteAddr() net.Addr { return c.client }

// LocalAddr returns the address that the client connected to, in the same way.
func (c *streamConn) LocalAddr() net.Addr { return c.server }

// Encrypted reports whether the client uses TLS, after HandshakeContext has returned.
func (c *streamConn) Encrypted() bool {
	_, encrypted := c.carried.(encryptedConn)
	return encrypted
}

// encryptedConn is a *tls.Conn or a *shared.Secured.
type encryptedConn interface {
	net.Conn
	ConnectionState() tls.ConnectionState
}

// ConnectionState describes the TLS connection, if Encrypted.
func (c *streamConn) ConnectionState() tls.ConnectionState {
	return c.carried.(encryptedConn).ConnectionState()
}

// NetConn returns what is read and written, so that a worker can serve it.
func (c *streamConn) NetConn() net.Conn { return c.carried }

func (c *streamConn) Read(p []byte) (int, error)  { return c.carried.Read(p) }
func (c *streamConn) Write(p []byte) (int, error) { return c.carried.Write(p) }

// Close closes the connection. It must not be called concurrently with HandshakeContext.
func (c *streamConn) Close() error {
	if c.carried == nil {
		return c.Conn.Close()
	}
	return c.carried.Close()
}
