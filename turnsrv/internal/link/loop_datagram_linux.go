package link

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// loopDatagram is a Datagram on an event loop.
type loopDatagram struct {
	fullness
	receiver *receiver
	loop     *loop.Loop
	socket   *udp.Socket
	handler  Handler
	alarm    *loop.Alarm
	woken    atomic.Bool // Tick has been posted

	closeOnce sync.Once
	closed    chan struct{}
	begun     chan struct{} // closed when the loop receives, unless it is suspended

	mu   sync.RWMutex // held for reading while another goroutine sends
	done bool         // the socket is closed
}

func newLoopDatagram(conn *net.UDPConn, on *loop.Loop, r *receiver) (datagram, error) {
	socket, err := udp.FromConn(conn, true)
	if err != nil {
		return nil, err
	}
	return &loopDatagram{fullness: newFullness(), receiver: r, loop: on, socket: socket, closed: make(chan struct{}), begun: make(chan struct{})}, nil
}

// Serve implements Datagram.
func (l *loopDatagram) Serve(h Handler) (err error) {
	l.loop.Do(func() {
		l.handler = h
		l.alarm = l.loop.NewAlarm(h.Tick)
		err = l.loop.Receive(l.socket, l, true)
	})
	close(l.begun)
	if err == nil {
		<-l.closed
	}
	l.loop.Do(func() {
		h.End(time.Now())
		l.loop.Flush(l.socket)
		l.loop.RemoveAlarm(l.alarm)
		l.loop.Unwatch(l.socket.FD())
		l.mu.Lock()
		defer l.mu.Unlock()
		l.done = true
		_ = l.socket.Close()
	})
	return err
}

// Close implements Datagram.
func (l *loopDatagram) Close() { l.closeOnce.Do(func() { close(l.closed) }) }

// Discard implements Datagram.
func (l *loopDatagram) Discard() error { return l.socket.Close() }

// Receive implements loop.Receiver.
func (l *loopDatagram) Receive(b []byte, from netip.AddrPort, local netip.Addr, now time.Time) {
	if client, ok := l.receiver.client(b, from, local); ok {
		handleInTurn(l.loop, b, client, now, l, l.receiver.counters)
	}
}

// handle passes a message to the handler, unless the link has ended while the message waited.
func (l *loopDatagram) handle(b []byte, from session.Client, now time.Time) {
	if !l.done {
		l.handler.Handle(b, from, now)
	}
}

// SetAlarm implements session.Link.
func (l *loopDatagram) SetAlarm(t time.Time) { l.alarm.Set(t) }

// Wake implements session.Link.
func (l *loopDatagram) Wake() {
	if l.woken.CompareAndSwap(false, true) {
		l.loop.Post(func() {
			l.woken.Store(false)
			l.handler.Tick(time.Now())
		})
	}
}

// Send implements session.Link. It sends from the address at which the server received the client's message. Data from a peer keeps its
// traffic class, RFC 8656 sections 14 and 15.
func (l *loopDatagram) Send(b []byte, to session.Client, p session.Priority, payload int, sender session.Sender) {
	var class byte
	if p == session.Media {
		class = l.loop.Class()
	}
	l.loop.Send(l.socket, b, to.Tuple.Client, to.Tuple.Server.Addr(), class, payload, sender)
}

// WritePacket implements sharedSocket.
func (l *loopDatagram) WritePacket(b []byte, to netip.AddrPort, local netip.Addr) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.done {
		return net.ErrClosed
	}
	err := l.socket.Send(b, to, local)
	l.record(err)
	return err
}

// Full implements session.Link.
func (l *loopDatagram) Full(now time.Time) bool {
	if l.socket.TakeFull() {
		l.set(now)
	}
	return l.fullness.Full(now)
}

// Allocated implements session.Link.
func (l *loopDatagram) Allocated(session.Client, bool) {}
