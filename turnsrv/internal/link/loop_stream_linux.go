package link

import (
	"crypto/tls"
	"errors"
	"math"
	"net"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/framing"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

const (
	// readable are the events for which a stream is read. epoll(7) reports errors and ends regardless.
	readable = unix.EPOLLIN
	// maxRead is the number of bytes that are read from a connection in one round, so that none delays the others.
	maxRead = 16 << 10
	// maxUnallocatedRead is the equivalent for a client without an allocation, which sends requests.
	maxUnallocatedRead = 1 << 10
	// maxAnswers is the number of records per second that crypto/tls may send on its own, in answer to what a client sends, such as
	// the KeyUpdate of RFC 8446 section 4.6.3. A client needs one in 2^24 records.
	maxAnswers = 16
)

// loopStream is a stream on an event loop. It has no goroutine. Everything is owned by the goroutine of the loop.
type loopStream struct {
	stream    *stream
	fd        int
	encrypted *tls.Conn // nil over TCP
	early     []byte    // decrypted before the socket moved
	polled    polledConn
	ahead     []byte // read before the socket moved
	cutter    framing.Cutter
	reading   bool // crypto/tls is reading: what it writes is an answer
	answers   int  // in the second that began at answered
	answered  time.Time
	out       []byte // bytes to send
	sent      int    // number of bytes of out that have been sent
	due       bool   // flush will be called at the end of the round
	blocked   bool   // the socket is full: flush will be called when it no longer is
	waiting   bool   // Do or Drop will be called
	cut       bool   // the connection ends without a close_notify
	exported  bool   // another process may take over: nothing is sent
	ended     bool
}

// streamBuffers are what the streams of a link share on the goroutine of their loop.
type streamBuffers struct {
	in, plain, padded []byte
	record            []byte // of an association
}

// move moves the socket of s to the loop of its link, and reports whether it could. Afterwards the loop serves s.
func (s *stream) move() bool {
	if conn, ok := s.conn.(*dtlsConn); ok {
		return s.link.loop != nil && s.moveAssociation(conn)
	}
	layers := layersOf(s.conn)
	movable := layers.movable
	if s.link.loop == nil || layers.socket == nil || layers.encrypted != nil && movable == nil {
		return false
	}
	f := &loopStream{stream: s, encrypted: layers.encrypted, early: layers.early, fd: -1}
	raw, err := layers.socket.SyscallConn()
	if err != nil {
		return false
	}
	if err := raw.Control(func(fd uintptr) {
		f.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil || f.fd < 0 {
		return false // out of descriptors
	}
	_ = layers.socket.Close() // Go's network poller forgets the socket
	if movable != nil {
		f.ahead, movable.ahead = movable.ahead, nil
		f.polled.out = f.written
		movable.polled.Store(&f.polled)
	}
	s.mu.Lock()
	s.onLoop = f
	shut := s.shut
	s.mu.Unlock()
	s.link.loop.Post(func() {
		if shut {
			f.cut = true
			f.end()
			return
		}
		f.begin(time.Now())
	})
	return true
}

// begin has the loop serve the stream.
func (f *loopStream) begin(now time.Time) {
	if f.ended {
		return
	}
	f.stream.link.buffers.allocate()
	if f.stream.link.ended || f.stream.link.loop.Watch(f.fd, readable, f.ready) != nil {
		f.cut = true
		f.end()
		return
	}
	f.stream.link.expire.set(f.stream, now.Add(UnallocatedTimeout))
	// What was read before may hold messages, in the tls.Conn too.
	ahead := f.ahead
	f.ahead = nil
	f.received(ahead, now)
}

// ready is called when the socket can be read from or written to.
func (f *loopStream) ready(events uint32, now time.Time) {
	if events&unix.EPOLLOUT != 0 {
		f.flush()
	}
	if events&^unix.EPOLLOUT == 0 || f.ended {
		return
	}
	l := f.stream.link
	switch {
	case f.stream.has.Load():
		f.read(l.buffers.in, now)
	case f.waiting:
	case l.loop.Admit():
		f.read(l.buffers.in[:maxUnallocatedRead], now)
	case l.loop.MayWait(f.stream.tuple.Client.Addr(), 0): // otherwise the system calls ready again
		f.waiting = true
		l.loop.Later(f.stream.tuple.Client.Addr(), 0, f)
	}
}

// Do implements loop.Task: it reads requests for which the loop had no time before.
func (f *loopStream) Do(now time.Time) {
	if f.waiting = false; !f.ended {
		f.read(f.stream.link.buffers.in[:maxUnallocatedRead], now)
	}
}

// Drop implements loop.Task. The requests remain in the socket, and ready is called again.
func (f *loopStream) Drop() { f.waiting = false }

// read reads from the socket.
func (f *loopStream) read(buf []byte, now time.Time) {
	n, errno := readSocket(f.fd, buf)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
	case errno != 0 || n == 0:
		f.end()
	default:
		f.received(buf[:n], now)
	}
}

// received processes bytes of the client.
func (f *loopStream) received(b []byte, now time.Time) {
	returned := false
	defer func() {
		if !returned { // A panic: where the next frame begins is unknown.
			f.cut = true
			f.end()
		}
	}()
	err := f.decrypt(b, now)
	returned = true
	if errors.Is(err, framing.Err) || errors.Is(err, framing.ErrLong) {
		f.stream.link.counters.Drop(event.DropMalformed)
	}
	if err != nil {
		f.end()
	}
}

// decrypt passes the plain text of b to handle.
func (f *loopStream) decrypt(b []byte, now time.Time) error {
	if f.encrypted == nil {
		return f.handle(b, now)
	}
	if early := f.early; early != nil {
		f.early = nil
		if err := f.handle(early, now); err != nil {
			return err
		}
	}
	// The loop's buffer is shared, so nothing may be left in it. A tls.Conn reads until it lacks a part of a record.
	f.polled.in = b
	plain := f.stream.link.buffers.plain
	if now.Sub(f.answered) >= time.Second {
		f.answers, f.answered = 0, now
	}
	for !f.cut {
		f.reading = true
		n, err := f.encrypted.Read(plain)
		f.reading = false
		if n > 0 {
			if err := f.handle(plain[:n], now); err != nil {
				return err
			}
		}
		if _, later := errors.AsType[errLater](err); later {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// handle passes the frames in b to the handler of the link.
func (f *loopStream) handle(b []byte, now time.Time) error {
	s := f.stream
	for len(b) > 0 && !f.cut {
		limit := math.MaxInt
		if !s.has.Load() {
			limit = maxUnallocatedFrame
		}
		frame, rest, err := f.cutter.Cut(b, limit)
		if err != nil {
			return err
		}
		if frame != nil {
			s.Receive(frame, s.tuple.Client, s.tuple.Server.Addr(), now)
		}
		b = rest
	}
	return nil
}

// send implements looped.
func (f *loopStream) send(b []byte, _ session.Client, p session.Priority, payload int, sender session.Sender) {
	sender.Sent(payload, f.enqueue(b, p))
}

// enqueue implements stream.enqueue. Over TLS each message becomes a separate record: see stream.write.
func (f *loopStream) enqueue(b []byte, p session.Priority) error {
	waiting := len(f.out) - f.sent
	switch {
	case f.ended || f.cut:
		return net.ErrClosed
	case p == session.Media && waiting+len(b) > MaxMediaQueue:
		return session.ErrQueue
	case waiting+len(b) > maxControlQueue:
		f.giveUp()
		return session.ErrQueue
	}
	if f.encrypted == nil {
		f.append(b)
		for i := len(b); i%4 != 0; i++ { // ChannelData, RFC 8656 section 12.5
			f.out = append(f.out, 0)
		}
		return nil
	}
	if len(b)%4 != 0 {
		padded := append(f.stream.link.buffers.padded[:0], b...)
		for len(padded)%4 != 0 {
			padded = append(padded, 0)
		}
		f.stream.link.buffers.padded, b = padded, padded
	}
	if _, err := f.encrypted.Write(b); err != nil {
		f.giveUp()
		return err
	}
	return nil
}

// written queues what crypto/tls writes. Answers are limited, because a client can cause many without reading them.
func (f *loopStream) written(b []byte) {
	if f.reading {
		f.answers++
		if f.answers > maxAnswers || len(f.out)-f.sent > maxControlQueue {
			f.giveUp()
			return
		}
	}
	f.append(b)
}

// append queues b to be sent at the end of the round.
func (f *loopStream) append(b []byte) {
	f.out = append(f.out, b...)
	if !f.due && !f.blocked {
		f.due = true
		f.stream.link.loop.AfterRound(f.flush)
	}
}

// flush sends as much as the socket accepts. There is no time limit: see stream.write.
func (f *loopStream) flush() {
	if f.due = false; f.ended || f.exported {
		return
	}
	for f.sent < len(f.out) {
		n, errno := writeSocket(f.fd, f.out[f.sent:])
		switch errno {
		case 0:
			f.sent += n
		case unix.EINTR:
		case unix.EAGAIN:
			f.block()
			return
		default:
			f.cut = true
			f.end()
			return
		}
	}
	f.sent = 0
	if f.out = f.out[:0]; cap(f.out) > KeepBuffer {
		f.out = nil
	}
	if f.blocked {
		f.blocked = false
		_ = f.stream.link.loop.Modify(f.fd, readable)
	}
}

// block has flush called when the socket accepts more. If more than half of out has been sent, it moves the rest to the front.
func (f *loopStream) block() {
	if f.sent > len(f.out)/2 {
		f.out = f.out[:copy(f.out, f.out[f.sent:])]
		f.sent = 0
	}
	if !f.blocked {
		f.blocked = true
		_ = f.stream.link.loop.Modify(f.fd, readable|unix.EPOLLOUT)
	}
}

// giveUp ends the stream without a close_notify at the end of the round.
func (f *loopStream) giveUp() {
	if !f.cut {
		f.cut = true
		f.stream.link.loop.AfterRound(f.end)
	}
}

// end ends the stream. The handler is told before the client can connect again from the same address.
func (f *loopStream) end() {
	if f.ended {
		return
	}
	f.ended = true
	l := f.stream.link
	l.loop.Unwatch(f.fd)
	l.expire.remove(f.stream)
	defer f.close() // whatever the handler does
	l.gone(f.stream)
}

func (f *loopStream) close() {
	if f.encrypted != nil && !f.cut && !f.blocked {
		f.due = true // what is appended is sent here
		_ = f.encrypted.Close()
		_, _ = writeSocket(f.fd, f.out[f.sent:])
	}
	f.out, f.polled.in = nil, nil
	_ = unix.Close(f.fd)
	f.stream.link.remove(f.stream)
}

// allocate makes the buffers for reading.
func (b *streamBuffers) allocate() {
	if b.in == nil {
		b.in, b.plain = make([]byte, maxRead), make([]byte, maxRecord)
	}
}

// readSocket reads without telling Go's scheduler: see package udp.
func readSocket(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

// writeSocket is the equivalent of readSocket. MSG_NOSIGNAL avoids a SIGPIPE, which Go would ignore.
func writeSocket(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}
