package turn

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/mailturn/mailturn/turnsrv"
)

// Engine serves TURN on the sockets of an endpoint, as *turnsrv.Server does. An engine may implement more: see drainer and
// dtlsServer.
type Engine interface {
	ServePacket(net.PacketConn) error
	ServeStream(net.Listener) error
	// Close ends everything, and returns when the Serve methods have.
	Close() error
}

// drainer is an Engine that can let running calls continue, as turnsrv.Server.Shutdown does.
type drainer interface {
	Shutdown(ctx context.Context) error
}

// dtlsServer is an Engine that serves DTLS, as turnsrv.Server.ServeDTLS does.
type dtlsServer interface {
	ServeDTLS(conn net.PacketConn, config *tls.Config, plain bool) error
}

// newServer creates the engine of this project.
func newServer(c turnsrv.Config) (Engine, error) { return turnsrv.New(c) }
