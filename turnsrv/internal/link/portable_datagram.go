package link

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// maxMessageLen exceeds the longest message: a STUN message with 65532 bytes of attributes.
const maxMessageLen = stun.HeaderLen + 65536

// portableDatagram is a Datagram whose goroutine reads from any connection.
type portableDatagram struct {
	fullness
	receiver *receiver
	socket   udp.PacketSocket
	failures int // consecutive errors of receive
	closing  atomic.Bool
}

func newPortableDatagram(conn net.PacketConn, r *receiver) (datagram, error) {
	return &portableDatagram{fullness: newFullness(), socket: udp.NewPacketSocket(conn), receiver: r}, nil
}

// Serve implements Datagram.
func (l *portableDatagram) Serve(h Handler) error {
	defer func() {
		h.End(time.Now())
		_ = l.socket.Close()
	}()
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

// Close implements Datagram.
func (l *portableDatagram) Close() {
	l.closing.Store(true)
	l.Wake()
}

// Discard implements Datagram.
func (l *portableDatagram) Discard() error { return l.socket.Close() }

// receive reads the next packet for the handler. Errors other than the closing of the socket concern single packets, for
// example ICMP errors or a full buffer, and are skipped.
func (l *portableDatagram) receive(p []byte) (int, session.Client, error) {
	for {
		n, from, local, err := l.socket.ReadPacket(p)
		switch {
		case err == nil:
			l.failures = 0
			if client, ok := l.receiver.client(p[:n], from, local); ok {
				return n, client, nil
			}
			continue
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return 0, session.Client{}, err
		}
		l.receiver.counters.Drop(event.DropMalformed)
		if l.failures++; l.failures > 1 {
			time.Sleep(min(time.Millisecond<<min(l.failures, 10), time.Second))
		}
	}
}

// SetAlarm implements session.Link.
func (l *portableDatagram) SetAlarm(t time.Time) { _ = l.socket.SetReadDeadline(t) }

// Wake implements session.Link. It sets a deadline in the past. The session sets the next deadline before it checks for work,
// so no wake-up is lost.
func (l *portableDatagram) Wake() { _ = l.socket.SetReadDeadline(time.Unix(1, 0)) }

// Send implements session.Link. It sends from the address at which the server received the client's message.
func (l *portableDatagram) Send(b []byte, to session.Client, _ session.Priority, payload int, sender session.Sender) {
	sender.Sent(payload, l.WritePacket(b, to.Tuple.Client, to.Tuple.Server.Addr()))
}

// WritePacket implements sharedSocket.
func (l *portableDatagram) WritePacket(b []byte, to netip.AddrPort, local netip.Addr) error {
	err := l.socket.WritePacket(b, to, local)
	l.record(err)
	return err
}

// Allocated implements session.Link.
func (l *portableDatagram) Allocated(session.Client, bool) {}
