package link

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// maxMessageLen exceeds the longest message: a STUN message with 65532 bytes of attributes.
const maxMessageLen = stun.HeaderLen + 65536

// Datagram serves clients over one UDP socket.
type Datagram struct {
	socket   *sharedSocket
	server   netip.AddrPort // local address of the socket
	counters *count.Counters
	failures int // consecutive errors of receive

	dtls      *DTLSListener // receives DTLS packets; nil if the socket does not serve DTLS
	encrypted bool          // the socket serves nothing but DTLS
	closing   atomic.Bool
}

// NewDatagram returns a link over conn, which is a *net.UDPConn or another connection with UDP addresses.
func NewDatagram(conn net.PacketConn, counters *count.Counters) (*Datagram, error) {
	socket, err := udp.NewPacketSocket(conn)
	if err != nil {
		return nil, err
	}
	return &Datagram{socket: &sharedSocket{PacketSocket: socket}, server: udp.AddrPortOf(conn.LocalAddr()), counters: counters}, nil
}

// NewDTLS returns a link over conn for clients that use DTLS, RFC 7350, and if plain is true for clients that use UDP. The
// connections of the listener are the DTLS associations (RFC 6347). NewDTLS uses the Certificates, GetCertificate and
// NextProtos of config.
func NewDTLS(
	conn net.PacketConn, config *tls.Config, plain bool, logger *slog.Logger, counters *count.Counters,
) (*Datagram, net.Listener, error) {
	l, err := NewDatagram(conn, counters)
	if err != nil {
		return nil, nil, err
	}
	l.dtls, l.encrypted = newDTLSListener(l.socket, conn.LocalAddr(), config, logger, counters), !plain
	return l, l.dtls, nil
}

// Serve passes received messages to h until Close is called or the socket fails. It returns the error of the socket.
func (l *Datagram) Serve(h Handler) error {
	defer func() { h.End(time.Now()) }()
	buf := make([]byte, maxMessageLen)
	for !l.closing.Load() {
		n, from, err := l.receive(buf)
		now := time.Now()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			h.Tick(now)
		case err != nil:
			return err
		default:
			h.Handle(buf[:n], from, now)
		}
	}
	return nil
}

// Close makes Serve return. Safe for concurrent use.
func (l *Datagram) Close() {
	l.closing.Store(true)
	l.Wake()
}

// receive reads the next packet for the handler. Errors other than the closing of the socket concern single packets, for
// example ICMP errors or a full buffer, and are skipped.
func (l *Datagram) receive(p []byte) (int, session.Client, error) {
	for {
		n, from, local, err := l.socket.ReadPacket(p)
		switch {
		case err == nil:
			l.failures = 0
			from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			if from.Port() == 0 {
				l.counters.Drop(event.DropMalformed) // no response could be sent to this port
				continue
			}
			server := l.server
			if local.IsValid() {
				server = netip.AddrPortFrom(local.Unmap(), server.Port())
			}
			tuple := event.FiveTuple{Client: from, Server: server, Transport: event.UDP}
			switch {
			case l.dtls != nil && n > 0 && isDTLS(p[0]):
				tuple.Transport = event.DTLS
				l.dtls.take(p[:n], tuple)
				continue
			case l.encrypted:
				l.counters.Drop(event.DropUnexpected)
				continue
			}
			return n, session.Client{Tuple: tuple}, nil
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return 0, session.Client{}, err
		}
		l.counters.Drop(event.DropMalformed)
		if l.failures++; l.failures > 1 {
			time.Sleep(min(time.Millisecond<<min(l.failures, 10), time.Second))
		}
	}
}

// SetAlarm implements session.Link.
func (l *Datagram) SetAlarm(t time.Time) { _ = l.socket.SetReadDeadline(t) }

// Wake implements session.Link. It sets a deadline in the past. The session sets the next deadline before it checks for work,
// so no wake-up is lost.
func (l *Datagram) Wake() { _ = l.socket.SetReadDeadline(time.Unix(1, 0)) }

// Send implements session.Link. It sends from the address at which the server received the client's message.
func (l *Datagram) Send(b []byte, to session.Client, _ session.Priority) error {
	return l.socket.WritePacket(b, to.Tuple.Client, to.Tuple.Server.Addr())
}

// Full implements session.Link.
func (l *Datagram) Full(now time.Time) bool { return l.socket.full(now) }

// Allocated implements session.Link.
func (l *Datagram) Allocated(session.Client, bool) {}
