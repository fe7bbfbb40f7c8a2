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
	// HandshakeTimeout is the maximum duration of a TLS or DTLS handshake.
	HandshakeTimeout = 10 * time.Second
	// UnallocatedTimeout is the maximum lifetime of a connection without an allocation, whatever it sends.
	UnallocatedTimeout = 30 * time.Second
	// MaxMediaQueue is the length in bytes of a client's send queue above which media is dropped: half a second at 4 Mbit/s.
	MaxMediaQueue = 256 << 10
	// maxControlQueue is the length in bytes above which the connection is closed, because responses would be lost.
	maxControlQueue = MaxMediaQueue + 64<<10
	// KeepBuffer is the size of the buffers that an idle connection keeps.
	KeepBuffer = 4 << 10
	// maxUnallocatedFrame limits the frames of a connection without an allocation, in bytes. Such a connection is unauthenticated.
	// The longest valid request consists of a few attributes of up to 763 bytes.
	maxUnallocatedFrame = 4096
)

// looped is how an event loop serves a stream. Its methods are called on the goroutine of the loop.
type looped interface {
	// send is Streams.Send.
	send(b []byte, to session.Client, p session.Priority, payload int, sender session.Sender)
	// giveUp ends the stream at the end of the round.
	giveUp()
	// end ends the stream.
	end()
	// isExported reports whether another process may take over the stream, and resume makes the stream go on if none does.
	isExported() bool
	resume()
}

// stream is one TCP or TLS connection of a client, or a DTLS association, which preserves message boundaries. After the
// handshake an event loop serves it if there is one that can: see loopStream and loopAssociation. Otherwise one goroutine reads and
// another one writes.
type stream struct {
	link       *Streams
	conn       net.Conn
	tuple      event.FiveTuple
	serverName string      // TLS server name in lower case; written before the first frame is delivered
	has        atomic.Bool // the client has an allocation
	left       bool        // the handler knows that the connection has ended; owned by the goroutine of the loop

	mu     sync.Mutex // guards what follows
	queue  []byte     // bytes waiting to be written
	shut   bool       // no more bytes are queued
	abort  func()     // ends the handshake; nil before it
	onLoop looped     // serves the connection if it is not nil; the loop reads it without the mutex, because it does not change then

	ready chan struct{} // holds one token if the queue may not be empty
	gone  chan struct{} // closed when the reader has returned
}

// serve performs the handshake and reads frames until the connection ends. It returns earlier, and true, if an event loop
// serves the connection from then on.
func (s *stream) serve() (moved bool) {
	err := s.handshake()
	if err == nil && s.move() {
		return true
	}
	var writer sync.WaitGroup
	defer func() {
		_ = s.conn.Close()
		s.mu.Lock()
		s.shut, s.queue = true, nil
		s.mu.Unlock()
		close(s.gone)
		writer.Wait()
	}()
	if err != nil {
		return false
	}
	s.readUntil(time.Now().Add(UnallocatedTimeout))
	writer.Go(s.write)
	// Report the end to the handler after the last frame, and before a connection from the same address can replace this one.
	defer s.link.deliver(frame{from: s})
	if s.tuple.Transport == event.DTLS {
		s.readMessages()
	} else {
		s.read()
	}
	return false
}

// handshake performs the TLS handshake if the connection has one. A listener of tls.NewListener leaves it to the first Read,
// where it would have no timeout of its own. A connection that may or may not be encrypted has a method Encrypted.
func (s *stream) handshake() error {
	conn, ok := s.conn.(interface {
		HandshakeContext(context.Context) error
	})
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.link.ctx, HandshakeTimeout)
	defer cancel()
	if !s.abortBy(cancel) {
		return net.ErrClosed
	}
	if err := s.link.handshakes.Perform(ctx, s.conn, conn.HandshakeContext); err != nil {
		return err
	}
	if s.tuple.Transport == event.DTLS {
		return nil
	}
	// The client's address is known only now if the server is behind a proxy that sends it.
	if client := udp.AddrPortOf(s.conn.RemoteAddr()); client != s.tuple.Client {
		s.tuple.Client = client
		s.link.places.moved(s, client.Addr())
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

// abortBy sets what ends the handshake, and reports whether it may still begin.
func (s *stream) abortBy(cancel func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abort = cancel
	return !s.shut
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

// readMessages is the equivalent of read for DTLS. A message that exceeds the buffer is dropped whole.
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

// enqueue appends b to the send queue. It does not block: if a client does not read, its newest media is dropped, and its
// connection is closed when there is no room for responses either.
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

// giveUp ends the connection without the TLS close_notify, on which Close could block. It is not called on the event loop that
// serves the stream.
func (s *stream) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.onLoop != nil {
		s.link.loop.Post(s.onLoop.giveUp)
		return
	}
	s.giveUpLocked()
}

// giveUpLocked makes both goroutines return. A handshake ends at once, although it may be waiting for its turn to compute.
func (s *stream) giveUpLocked() {
	s.shut = true
	if s.abort != nil {
		s.abort()
	}
	_ = s.conn.SetDeadline(time.Unix(1, 0))
}

// readUntil makes the reader return at t, or never if t is zero. After giveUp, the reader returns regardless.
func (s *stream) readUntil(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shut {
		_ = s.conn.SetReadDeadline(t)
	}
}

// write sends the queue. Over TCP it combines messages into few writes. Over TLS it sends each message as a separate record,
// because some clients (coturn's) process only the first message of a record. Over DTLS a record is a datagram, and ChannelData
// requires no padding, RFC 8656 section 12.5.
//
// Writes have no timeout: a phone may be without a network for a while, and its call continues when it is back. The queue is
// limited in the meantime, and the reader closes the connection when the client's allocation expires.
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
				s.giveUp() // makes the reader return, which closes the connection
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

// allocated keeps the connection open while it has an allocation, and for UnallocatedTimeout after that.
func (s *stream) allocated(has bool) {
	s.has.Store(has)
	switch {
	case s.onLoop != nil && has:
		s.link.expire.remove(s)
		return
	case s.onLoop != nil:
		s.link.expire.set(s, time.Now().Add(UnallocatedTimeout))
		return
	}
	if has {
		s.readUntil(time.Time{})
	} else {
		s.readUntil(time.Now().Add(UnallocatedTimeout))
	}
}

// Name implements session.Connection.
func (s *stream) Name() string { return s.serverName }

func newStream(l *Streams, conn net.Conn) *stream {
	transport := event.TCP // until the handshake shows that it is TLS
	if _, ok := conn.(*dtlsConn); ok {
		transport = event.DTLS
	}
	return &stream{
		link: l, conn: conn,
		tuple: event.FiveTuple{Client: udp.AddrPortOf(conn.RemoteAddr()), Server: udp.AddrPortOf(conn.LocalAddr()), Transport: transport},
		ready: make(chan struct{}, 1), gone: make(chan struct{}),
	}
}
