package http

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"github.com/mailturn/mailturn/endpoint/shared"
)

// tlsListener is like that of tls.NewListener. It also returns connections whose handshake a shared port has performed.
type tlsListener struct {
	net.Listener
	config *tls.Config
}

// Accept implements net.Listener.
func (l *tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if secured := securedOf(conn); secured != nil {
		secured.Over(conn)
		return secured, nil
	}
	return tls.Server(conn, l.config), nil
}

// securedOf returns the TLS connection of a connection from a shared port that has performed the handshake, and nil for others.
func securedOf(conn net.Conn) *shared.Secured {
	limited, ok := conn.(*limitedConn)
	if !ok {
		return nil
	}
	if from := shared.Of(limited.Conn); from != nil {
		return from.Secured()
	}
	return nil
}

// securedKey is the key of a context's *shared.Secured.
type securedKey struct{}

// withSecured is a function for http.Server.ConnContext. Package net/http sets Request.TLS only for a *tls.Conn: see setTLS.
func withSecured(ctx context.Context, conn net.Conn) context.Context {
	if secured, ok := conn.(*shared.Secured); ok {
		return context.WithValue(ctx, securedKey{}, secured)
	}
	return ctx
}

// setTLS sets Request.TLS of a request on a connection whose handshake a shared port has performed.
func setTLS(r *http.Request) {
	if secured, ok := r.Context().Value(securedKey{}).(*shared.Secured); ok {
		state := secured.ConnectionState()
		r.TLS = &state
	}
}
