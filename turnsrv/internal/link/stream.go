package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/framing"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"github.com/pion/dtls/v3"
)

const (
	// HandshakeTimeout bounds a handshake of TLS or DTLS.
	HandshakeTimeout = 10 * time.Second
	// UnallocatedTimeout is how long a connection may live without an allocation, whatever it sends.
	UnallocatedTimeout = 30 * time.Second
	// MaxMediaQueue is how many bytes wait for a client before media is dropped: half a second at 4 Mbit/s.
	MaxMediaQueue = 256 << 10
	// maxControlQueue is how many wait before the connection is given up, because answers would be lost.
	maxControlQueue = MaxMediaQueue + 64<<10
	// KeepBuffer is the size of the buffers that an idle connection keeps.
	KeepBuffer = 4 << 10
	// maxUnallocatedFrame bounds the frames of a connection that has no allocation, in bytes. Nobody has been authenticated
	// there, and the longest honest request is made of a few attributes of 763 bytes at most.
	maxUnallocatedFrame = 4096
)

// stream is one TCP or TLS connection of a client, or a DTLS association, which keeps its messages apart by itself. The
// goroutine that serves it reads, a second one writes.
type stream struct {
	link       *Streams
	conn       net.Conn
	tuple      event.FiveTuple
	serverName string      // of TLS, in lower case; written before the first frame is delivered
	has        atomic.Bool // an allocation

	mu    sync.Mutex // guards what follows
	queue []byte     // waiting to be written
	shut  bool       // nothing is queued any more

	ready chan struct{} // holds one token when the queue may have something
	gone  chan struct{} // closed when the reader has left
}

// serve reads frames until the connection ends.
func (s *stream) serve() {
	var writer sync.WaitGroup
	defer func() {
		_ = s.conn.Close()
		s.mu.Lock()
		s.shut, s.queue = true, nil
		s.mu.Unlock()
		close(s.gone)
		writer.Wait()
	}()
	if err := s.handshake(); err != nil {
		return
	}
	s.readUntil(time.Now().Add(UnallocatedTimeout))
	writer.Go(s.write)
	// The handler hears of the end after the last frame, and before a connection from the same address can take its place.
	defer s.link.deliver(frame{from: s})
	if s.tuple.Transport == event.DTLS {
		s.readMessages()
	} else {
		s.read()
	}
}

// handshake ends TLS, if the listener has begun it: whoever makes a listener with tls.NewListener leaves that to the
// first Read, which would then have no deadline of its own. A connection that may carry either has a method Encrypted.
func (s *stream) handshake() error {
	conn, ok := s.conn.(interface {
		HandshakeContext(context.Context) error
	})
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.link.ctx, HandshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if s.tuple.Transport == event.DTLS {
		return nil
	}
	// A proxy in front of the server has said only now who its client is.
	if client := udp.AddrPortOf(s.conn.RemoteAddr()); client != s.tuple.Client {
		s.tuple.Client = client
		s.link.moved(s)
	}
	s.tuple.Server = udp.AddrPortOf(s.conn.LocalAddr())
	if either, ok := s.conn.(interface{ Encrypted() bool }); !ok || either.Encrypted() {
		s.tuple.Transport = event.TLS
		if encrypted, ok := s.conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
			s.serverName = strings.ToLower(encrypted.ConnectionState().ServerName)
		}
	}
	return nil
}

func (s *stream) read() {
	r := bufio.NewReaderSize(s.conn, KeepBuffer)
	for first := true; ; first = false {
		n, err := framing.Next(r, first)
		if err != nil {
			if errors.Is(err, framing.Err) {
				s.link.counters.Drop(event.DropMalformed)
			}
			return
		}
		if n > maxUnallocatedFrame && !s.has.Load() {
			s.link.counters.Drop(event.DropMalformed)
			return
		}
		f := frame{from: s, buf: s.link.buffer(n)}
		if _, err := io.ReadFull(r, (*f.buf)[:n]); err != nil {
			s.link.recycle(f.buf)
			return
		}
		f.n = n
		if !s.link.deliver(f) {
			return
		}
	}
}

// readMessages is read for DTLS. A message that does not fit the buffer is lost as a whole.
func (s *stream) readMessages() {
	buf := make([]byte, KeepBuffer)
	for {
		n, err := s.conn.Read(buf)
		if _, ok := errors.AsType[*dtls.TemporaryError](err); ok {
			s.link.counters.Drop(event.DropOversize)
			continue
		}
		if err != nil {
			return
		}
		f := frame{from: s, buf: s.link.buffer(n), n: n}
		copy(*f.buf, buf[:n])
		if !s.link.deliver(f) {
			return
		}
	}
}

// enqueue has b written after what waits already. It does not block: a client that does not read loses the newest media,
// and its connection when not even answers find room.
func (s *stream) enqueue(b []byte, p session.Priority) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.shut:
		return net.ErrClosed
	case p == session.Media && len(s.queue)+len(b) > MaxMediaQueue:
		return session.ErrQueue
	case len(s.queue)+len(b) > maxControlQueue:
		s.giveUpLocked()
		return session.ErrQueue
	}
	s.queue = append(s.queue, b...)
	for len(s.queue)%4 != 0 { // ChannelData, RFC 8656 section 12.5
		s.queue = append(s.queue, 0)
	}
	select {
	case s.ready <- struct{}{}:
	default:
	}
	return nil
}

// giveUp has both goroutines leave, without the good-bye of TLS that Close would wait for.
func (s *stream) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveUpLocked()
}

func (s *stream) giveUpLocked() {
	s.shut = true
	_ = s.conn.SetDeadline(time.Unix(1, 0))
}

// readUntil has the reader leave at t, or never if t is zero. One that has been given up leaves in any case.
func (s *stream) readUntil(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shut {
		_ = s.conn.SetReadDeadline(t)
	}
}

// write empties the queue: over TCP what waits in few writes, over TLS each message in a record of its own,
// because there are clients (coturn's) that look at the first message of a record only. Over DTLS a record is a datagram, and
// ChannelData needs no padding, RFC 8656 section 12.5.
//
// A write has no deadline: a phone may have no network for a while, and the call goes on when it has. What waits meanwhile is
// bounded, and the reader ends the connection of a client that does not come back, with or after its allocation.
func (s *stream) write() {
	var spare []byte
	for {
		select {
		case <-s.ready:
		case <-s.gone:
			return
		}
		s.mu.Lock()
		batch := s.queue
		s.queue = spare[:0]
		s.mu.Unlock()
		if len(batch) == 0 {
			spare = batch
			continue
		}
		for rest := batch; len(rest) > 0; {
			n := len(rest)
			if s.tuple.Transport != event.TCP {
				n = framing.Len(rest)
			}
			message := rest[:n]
			if s.tuple.Transport == event.DTLS && stun.IsChannelData(message[0]) {
				message = message[:stun.ChannelDataHeaderLen+int(binary.BigEndian.Uint16(message[2:]))]
			}
			if _, err := s.conn.Write(message); err != nil {
				s.giveUp() // the reader leaves, and closes
				<-s.gone
				return
			}
			rest = rest[n:]
		}
		if spare = batch; cap(spare) > KeepBuffer {
			spare = nil
		}
	}
}

// allocated keeps the connection for as long as it has an allocation, and a little longer.
func (s *stream) allocated(has bool) {
	s.has.Store(has)
	if has {
		s.readUntil(time.Time{})
	} else {
		s.readUntil(time.Now().Add(UnallocatedTimeout))
	}
}

// Name implements connection.
func (s *stream) Name() string { return s.serverName }

func newStream(l *Streams, conn net.Conn) *stream {
	transport := event.TCP // until the handshake shows that it is TLS
	if _, ok := conn.(*dtls.Conn); ok {
		transport = event.DTLS
	}
	return &stream{
		link: l, conn: conn,
		tuple: event.FiveTuple{Client: udp.AddrPortOf(conn.RemoteAddr()), Server: udp.AddrPortOf(conn.LocalAddr()), Transport: transport},
		ready: make(chan struct{}, 1), gone: make(chan struct{}),
	}
}
