package turnsrv

import (
	"crypto/tls"
	"net"

	"github.com/mailturn/mailturn/turnsrv/internal/link"
)

// Conn is a connection that a worker can serve after its handshake, also under a tls.Conn. Until then it behaves like the
// connection under it. See Server.ServeStream.
type Conn = link.Conn

// NewConn returns a Conn over conn, which must be a *net.TCPConn for a worker to serve it. Conn.Peek tells protocols apart.
func NewConn(conn net.Conn) *Conn { return link.NewConn(conn) }

// NewTLSListener is like tls.NewListener, but workers can serve the connections of inner, a TCP listener.
func NewTLSListener(inner net.Listener, config *tls.Config) net.Listener {
	return link.NewTLSListener(inner, config)
}
