package turnsrv

import (
	"crypto/tls"
	"net"

	"github.com/mailturn/mailturn/turnsrv/internal/link"
)

// Conn is a connection that a worker can serve after its handshake, even if a tls.Conn wraps it. Until then it behaves like the
// connection that it wraps. See Server.ServeStream.
type Conn = link.Conn

// NewConn returns a Conn over conn. A worker can serve it only if conn is a *net.TCPConn. Conn.Peek helps to distinguish protocols.
func NewConn(conn net.Conn) *Conn { return link.NewConn(conn) }

// Handshakes limits how many TLS handshakes compute at the same time. Connections must be Conns, or tls.Conns over them.
type Handshakes = link.Handshakes

// NewHandshakes returns a limit of half of the processors, and at least one, as that of a Server is.
func NewHandshakes() *Handshakes { return link.NewHandshakes() }

// NewTLSListener is like tls.NewListener, but workers can serve the connections of inner, a TCP listener.
func NewTLSListener(inner net.Listener, config *tls.Config) net.Listener {
	return link.NewTLSListener(inner, config)
}
