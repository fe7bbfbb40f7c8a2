package link

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// Export implements Datagram.
func (l *loopDatagram) Export(e *session.Export) (links []handover.Link, err error) {
	<-l.begun
	exported := handover.Link{}
	err = result(l.loop, func() (err error) {
		if exported.Cookie, err = l.socket.Cookie(); err != nil {
			return err
		}
		return l.handler.(Movable).Export(e, &exported, nil)
	})
	links = []handover.Link{exported}
	return links, err
}

// Owns implements Datagram.
func (l *loopDatagram) Owns(exported *handover.Link) bool {
	cookie, err := l.socket.Cookie()
	return err == nil && cookie == exported.Cookie && !exported.DTLS
}

// cookie implements datagram.
func (l *loopDatagram) cookie() (uint64, error) { return l.socket.Cookie() }

// Restore implements Datagram.
func (l *loopDatagram) Restore(in *handover.Incoming, links []*handover.Link) (err error) {
	<-l.begun
	for _, exported := range links {
		if err == nil {
			err = result(l.loop, func() error { return l.handler.(Movable).Restore(in, exported, noStreams) })
		}
	}
	return err
}

// noStreams is the list of connections of a UDP socket.
func noStreams(int) (session.Connection, bool) { return nil, false }

// Release implements Datagram.
func (l *loopDatagram) Release() {
	<-l.begun
	l.loop.Do(func() { l.handler.(Movable).Release(func(session.Client) bool { return true }, time.Now()) })
}
