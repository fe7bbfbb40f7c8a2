package link

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/framing"
	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// canMove reports whether another process can take over the connection, which the loop serves.
func (f *loopStream) canMove() bool {
	return !f.ended && !f.cut && f.encrypted == nil && f.ahead == nil && f.stream.tuple.Transport == event.TCP
}

var errPanicked = errors.New("there was a panic, which is in the log")

// result makes a loop call f, and returns its error. A loop recovers from a panic, which is an error here.
func result(on *loop.Loop, f func() error) error {
	err := errPanicked
	on.Do(func() { err = f() })
	return err
}

// Export adds the connections that another process can take over, and the allocations, one link for each loop. The loops are
// suspended. It returns errors.ErrUnsupported if the link has none.
func (l *Streams) Export(e *session.Export) (links []handover.Link, err error) {
	<-l.begun
	for _, share := range l.shares {
		if share.loop == nil {
			return nil, errors.ErrUnsupported
		}
		exported := handover.Link{Listener: l.address()}
		if err := result(share.loop, func() error { return share.export(e, &exported) }); err != nil {
			return nil, err
		}
		links = append(links, exported)
	}
	return links, nil
}

func (l *Streams) export(e *session.Export, exported *handover.Link) error {
	indices := make(map[session.Connection]int)
	for _, s := range l.places.of(l) {
		switch f := s.served().(type) {
		case *loopStream:
			if f.canMove() {
				indices[s] = len(exported.Streams)
				exported.Streams = append(exported.Streams, f.export(e))
			}
		case *loopAssociation:
			if f.canMove(e.Version) {
				indices[s] = len(exported.Associations)
				exported.Associations = append(exported.Associations, f.export())
			}
		}
	}
	if l.associations != nil {
		var err error
		if exported.Cookie, err = l.associations.socket.cookie(); err != nil {
			return err
		}
		exported.DTLS = true
	}
	return l.handler.(Movable).Export(e, exported, func(c session.Connection) (index int, ok bool) {
		index, ok = indices[c]
		return index, ok
	})
}

// served returns how the loop serves the stream, or nil if it does not.
func (s *stream) served() looped {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.onLoop
}

// export describes the connection, and keeps what it has not sent.
func (f *loopStream) export(e *session.Export) handover.Stream {
	f.flush()
	f.exported = true
	partial, begun := f.cutter.Export()
	return handover.Stream{
		Descriptor: e.Add(f.fd), Client: f.stream.tuple.Client, Server: f.stream.tuple.Server, ServerName: f.stream.serverName,
		Begun: begun, Partial: bytes.Clone(partial), Output: bytes.Clone(f.out[f.sent:]),
	}
}

func (f *loopStream) isExported() bool { return f.exported }

// resume implements looped.
func (f *loopStream) resume() {
	f.exported = false
	f.flush()
}

// Owns reports whether exported has connections of the listener, or their allocations.
func (l *Streams) Owns(exported *handover.Link) bool {
	if l.associations != nil {
		cookie, err := l.associations.socket.cookie()
		return err == nil && cookie == exported.Cookie && exported.DTLS
	}
	return exported.Cookie == 0 && l.address() == exported.Listener
}

// Restore restores connections and allocations, those of each of links on one loop.
func (l *Streams) Restore(in *handover.Incoming, links []*handover.Link) (err error) {
	<-l.begun
	for i, exported := range links {
		share := l.shares[i%len(l.shares)]
		if share.loop == nil {
			return errors.ErrUnsupported
		}
		if err == nil {
			err = result(share.loop, func() error { return share.restore(in, exported) })
		}
	}
	return err
}

func (l *Streams) restore(in *handover.Incoming, exported *handover.Link) error {
	var streams []*stream
	for i := range exported.Streams {
		s, err := l.restoreStream(in, &exported.Streams[i])
		if err != nil {
			return fmt.Errorf("connection of %v: %w", exported.Streams[i].Client, err)
		}
		streams = append(streams, s)
	}
	if exported.DTLS && l.associations != nil {
		streams = l.restoreAssociations(exported.Associations)
	}
	err := l.handler.(Movable).Restore(in, exported, func(i int) (session.Connection, bool) {
		if i < 0 || i >= len(streams) || streams[i] == nil {
			return nil, false
		}
		return streams[i], true
	})
	for _, s := range streams {
		if s != nil && !s.has.Load() {
			l.places.allocated(s, false, s.tuple.Client.Addr())
		}
	}
	return err
}

// restoreStream makes the loop serve a connection.
func (l *Streams) restoreStream(in *handover.Incoming, exported *handover.Stream) (*stream, error) {
	fd, err := in.Take(exported.Descriptor)
	if err != nil {
		return nil, err
	}
	s := &stream{
		link: l, serverName: exported.ServerName,
		tuple: event.FiveTuple{Client: exported.Client, Server: exported.Server, Transport: event.TCP},
		ready: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	f := &loopStream{
		stream: s, fd: fd, out: slices.Clone(exported.Output), cutter: framing.Restore(slices.Clone(exported.Partial), exported.Begun),
	}
	s.onLoop = f
	if !l.adopt(s) {
		_ = unix.Close(fd)
		return nil, net.ErrClosed
	}
	f.begin(time.Now())
	if f.ended {
		return nil, os.ErrInvalid
	}
	f.flush()
	return s, nil
}

// Release forgets the connections and allocations that another process has taken over, ends all others, and returns when Serve does.
// The loops are suspended.
func (l *Streams) Release() {
	<-l.begun
	for _, share := range l.shares {
		share.loop.Do(share.release)
	}
	l.Close()
	<-l.finished
}

func (l *Streams) release() {
	moved := func(c session.Connection) bool {
		f := c.(*stream).served()
		return f != nil && f.isExported()
	}
	l.handler.(Movable).Release(func(c session.Client) bool { return moved(c.Stream) }, time.Now())
	for _, s := range l.places.of(l) {
		if f := s.served(); f != nil {
			f.end() // with a close_notify if it is encrypted; the other process has descriptors of its own
		}
	}
}

// Suspend makes the link accept no more connections. It returns errors.ErrUnsupported if it cannot.
func (l *Streams) Suspend() error {
	<-l.begun
	return l.Hold()
}

// Resume makes the link accept connections again, and sends what waits for suspended loops.
func (l *Streams) Resume() {
	<-l.begun
	for _, share := range l.shares {
		if share.loop == nil {
			continue
		}
		share.loop.Do(func() {
			for _, s := range share.places.of(share) {
				if f := s.served(); f != nil && f.isExported() {
					f.resume()
				}
			}
		})
	}
	l.gate.open()
}
