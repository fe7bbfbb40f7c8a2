package turnsrv

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// maxMessageLen is more than the longest message, which is one of STUN's with 65532 bytes of attributes.
const maxMessageLen = 20 + 65536

// datagramLink reaches clients over one UDP socket.
type datagramLink struct {
	socket   *sharedSocket
	server   netip.AddrPort // that the socket is bound to
	counters *counters
	failures int // of receive in a row

	dtls      *dtlsListener // gets the packets of DTLS; nil for a socket without
	encrypted bool          // DTLS is all that there is
	closing   atomic.Bool
}

// newDatagramLink returns a link over conn, which is a *net.UDPConn or something like it that uses UDP addresses.
func newDatagramLink(conn net.PacketConn, counters *counters) (*datagramLink, error) {
	socket, err := newPacketSocket(conn)
	if err != nil {
		return nil, err
	}
	return &datagramLink{socket: &sharedSocket{packetSocket: socket}, server: addrPortOf(conn.LocalAddr()), counters: counters}, nil
}

// serve hands what arrives to h until close is called, or the socket fails, whose error it returns.
func (l *datagramLink) serve(h handler) error {
	defer func() { h.end(time.Now()) }()
	buf := make([]byte, maxMessageLen)
	for !l.closing.Load() {
		n, from, err := l.receive(buf)
		now := time.Now()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			h.tick(now)
		case err != nil:
			return err
		default:
			h.handle(buf[:n], from, now)
		}
	}
	return nil
}

// close has serve return. Safe for concurrent use.
func (l *datagramLink) close() {
	l.closing.Store(true)
	l.wake()
}

// receive reads the next packet that is for the handler. A socket error that is not the end of the socket is none of the clients' business: ICMP
// answers, a full buffer and what else the system reports concern one packet.
func (l *datagramLink) receive(p []byte) (int, client, error) {
	for {
		n, from, local, err := l.socket.readPacket(p)
		switch {
		case err == nil:
			l.failures = 0
			from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			if from.Port() == 0 {
				l.counters.drop(DropMalformed) // it could not be answered
				continue
			}
			server := l.server
			if local.IsValid() {
				server = netip.AddrPortFrom(local.Unmap(), server.Port())
			}
			tuple := FiveTuple{Client: from, Server: server, Transport: UDP}
			switch {
			case l.dtls != nil && n > 0 && isDTLS(p[0]):
				tuple.Transport = DTLS
				l.dtls.take(p[:n], tuple)
				continue
			case l.encrypted:
				l.counters.drop(DropUnexpected)
				continue
			}
			return n, client{tuple: tuple}, nil
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return 0, client{}, err
		}
		l.counters.drop(DropMalformed)
		if l.failures++; l.failures > 1 {
			time.Sleep(min(time.Millisecond<<min(l.failures, 10), time.Second))
		}
	}
}

func (l *datagramLink) setAlarm(t time.Time) { _ = l.socket.SetReadDeadline(t) }

// wake lets a deadline pass. Whoever sets another one looks after that at everything that it could have been woken for, so that
// no call is lost between the two.
func (l *datagramLink) wake() { _ = l.socket.SetReadDeadline(time.Unix(1, 0)) }

// send implements link. It answers from the address that the client has sent to.
func (l *datagramLink) send(b []byte, to client, _ priority) error {
	return l.socket.writePacket(b, to.tuple.Client, to.tuple.Server.Addr())
}

func (l *datagramLink) full(now time.Time) bool { return l.socket.full(now) }

func (l *datagramLink) allocated(client, bool) {}

// addrPortOf returns the address and port of a, or the zero value if it is not of a kind that has them.
func addrPortOf(a net.Addr) netip.AddrPort {
	var addr netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		addr = a.AddrPort()
	case *net.TCPAddr:
		addr = a.AddrPort()
	}
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}
