package link

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// Datagram serves clients over one UDP socket.
type Datagram interface {
	session.Link
	// Serve passes received messages to h until Close is called or the socket fails. It returns the error of the socket.
	Serve(h Handler) error
	// Close makes Serve return. Safe for concurrent use.
	Close()
	// Owns reports whether exported is the state of the clients of this socket.
	Owns(exported *handover.Link) bool
	// Export returns the state of the clients, while the loop is suspended. It returns errors.ErrUnsupported without a loop.
	Export(e *session.Export) ([]handover.Link, error)
	// Restore restores the state of the clients.
	Restore(in *handover.Incoming, links []*handover.Link) error
	// Release forgets the clients, which another process has taken over.
	Release()
	// Discard closes the socket of a link that is not served.
	Discard() error
}

// NewDatagram returns a link over conn, which is a *net.UDPConn or another connection with UDP addresses. It takes ownership of
// conn. If on is not nil, conn is a *net.UDPConn, and the handler is called on the goroutine of on.
func NewDatagram(conn net.PacketConn, on *loop.Loop, counters *count.Counters) (Datagram, error) {
	return newDatagram(conn, on, &receiver{server: udp.AddrPortOf(conn.LocalAddr()), counters: counters})
}

// NewDTLS is like NewDatagram for clients that use DTLS, RFC 7350, and if plain is true for clients that use UDP. The
// connections of the listener are the DTLS associations (RFC 6347). NewDTLS uses the Certificates, GetCertificate and
// NextProtos of config.
func NewDTLS(
	conn net.PacketConn, config *tls.Config, plain bool, logger *slog.Logger, on *loop.Loop, counters *count.Counters,
) (Datagram, net.Listener, error) {
	listener := newDTLSListener(conn.LocalAddr(), config, logger, on, counters)
	l, err := newDatagram(conn, on, &receiver{
		server: udp.AddrPortOf(conn.LocalAddr()), counters: counters, dtls: listener, encrypted: !plain,
	})
	if err != nil {
		return nil, nil, err
	}
	listener.socket = l
	return l, listener, nil
}

// datagram is a link that DTLS associations share.
type datagram interface {
	Datagram
	sharedSocket
	// cookie identifies the socket in all processes, if it is on an event loop.
	cookie() (uint64, error)
}

func newDatagram(conn net.PacketConn, on *loop.Loop, r *receiver) (datagram, error) {
	if on != nil {
		return newLoopDatagram(conn.(*net.UDPConn), on, r)
	}
	return newPortableDatagram(conn, r)
}

// receiver determines what the packets of a UDP socket are.
type receiver struct {
	server    netip.AddrPort // local address of the socket
	counters  *count.Counters
	dtls      *DTLSListener // receives DTLS packets; nil if the socket does not serve DTLS
	encrypted bool          // the socket serves nothing but DTLS
}

// client returns the client that sent b, or false if b has been dealt with.
func (r *receiver) client(b []byte, from netip.AddrPort, local netip.Addr) (c session.Client, ok bool) {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	if from.Port() == 0 {
		r.counters.Drop(event.DropMalformed) // no response could be sent to this port
		return session.Client{}, false
	}
	server := r.server
	if local.IsValid() {
		server = netip.AddrPortFrom(local.Unmap(), server.Port())
	}
	tuple := event.FiveTuple{Client: from, Server: server, Transport: event.UDP}
	switch {
	case r.dtls != nil && len(b) > 0 && isDTLS(b[0]):
		tuple.Transport = event.DTLS
		r.dtls.take(b, tuple)
		return session.Client{}, false
	case r.encrypted:
		r.counters.Drop(event.DropUnexpected)
		return session.Client{}, false
	}
	return session.Client{Tuple: tuple}, true
}
