package link

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// maxFrames is how many frames of all connections wait for the handler. A reader whose frame finds no room waits itself,
// so that TCP slows its client down.
const maxFrames = 256

// MaxUnallocated is how many connections without an allocation a listener has. Nobody has been authenticated there. An honest
// one needs its place for a few round trips, a third of a second across an ocean, so that it gets through beside 10,000 new ones
// a second even if all of them come from its own network. One takes some 8 KB, over TLS some 30.
const MaxUnallocated = 4096

// smallFrame is the size of the buffers that are kept for frames: more than nearly every frame is.
const smallFrame = 2048

// Streams reaches the clients of one stream listener, each over its own connection.
type Streams struct {
	counters *count.Counters
	max      int // connections
	spare    spareDescriptor

	frames chan frame
	woken  chan struct{} // holds one token
	timer  *time.Timer
	ctx    context.Context // ends with the link: handshakes end with it
	cancel context.CancelFunc
	pool   sync.Pool // of *[]byte, smallFrame long

	mu          sync.Mutex // guards what follows, except serving
	streams     map[*stream]struct{}
	unallocated limit.Crowd[*stream] // those of them without an allocation
	closed      bool
	serving     sync.WaitGroup
}

// frame is one message of a stream. Without a buffer it says that the stream is at its end.
type frame struct {
	from *stream
	buf  *[]byte
	n    int
}

// NewStreams returns a link that has at most maxStreams connections.
func NewStreams(maxStreams int, c *count.Counters) *Streams {
	l := &Streams{
		counters: c, max: maxStreams,
		frames: make(chan frame, maxFrames), woken: make(chan struct{}, 1), timer: time.NewTimer(0),
		streams: make(map[*stream]struct{}),
		pool:    sync.Pool{New: func() any { b := make([]byte, smallFrame); return &b }},
	}
	l.timer.Stop()
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// accept serves the connections of listener until the listener or the link is closed. An error that passes, as a want of
// descriptors does, is waited out, and connections are closed meanwhile rather than left waiting.
func (l *Streams) accept(listener net.Listener, failed func(error)) error {
	defer l.spare.release()
	for backoff := time.Duration(0); ; {
		l.spare.hold()
		conn, err := listener.Accept()
		if err == nil {
			backoff = 0
			l.start(conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) || l.ctx.Err() != nil {
			return err
		}
		failed(err)
		if conn := l.spare.accept(listener, err); conn != nil {
			l.start(conn)
		}
		backoff = min(backoff*2+5*time.Millisecond, time.Second)
		select {
		case <-time.After(backoff):
		case <-l.ctx.Done():
		}
	}
}

// start serves conn on goroutines of its own. When there are too many, one that has no allocation has to go: the oldest of the
// source network that has most of them, so that whoever opens them by the thousand to keep others out displaces his own.
func (l *Streams) start(conn net.Conn) {
	s := newStream(l, conn)
	l.mu.Lock()
	full := len(l.streams) >= l.max || l.unallocated.Len() >= MaxUnallocated
	if l.closed || full && !l.evictLocked() {
		l.mu.Unlock()
		l.counters.StreamsRefused.Add(1)
		_ = conn.Close()
		return
	}
	l.streams[s] = struct{}{}
	l.unallocated.Add(s, s.tuple.Client.Addr())
	l.serving.Add(1)
	l.mu.Unlock()
	l.counters.Streams.Add(1)
	go func() {
		defer l.serving.Done()
		s.serve()
		l.counters.Streams.Add(-1)
		l.mu.Lock()
		l.forgetLocked(s)
		l.mu.Unlock()
	}()
}

// evictLocked gives up a connection without an allocation, and reports whether there was one.
func (l *Streams) evictLocked() bool {
	s, ok := l.unallocated.First()
	if ok {
		s.giveUp()
		l.forgetLocked(s)
		l.counters.StreamsRefused.Add(1)
	}
	return ok
}

func (l *Streams) forgetLocked(s *stream) {
	delete(l.streams, s)
	l.unallocated.Remove(s)
}

// moved has s, which has no allocation yet, count for the address that its client turned out to have.
func (l *Streams) moved(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unallocated.Remove(s) {
		l.unallocated.Add(s, s.tuple.Client.Addr())
	}
}

// deliver gives f to the handler and reports whether the link still takes frames.
func (l *Streams) deliver(f frame) bool {
	select {
	case l.frames <- f:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// buffer returns a buffer of at least n bytes, to be recycled.
func (l *Streams) buffer(n int) *[]byte {
	if n > smallFrame {
		b := make([]byte, n)
		return &b
	}
	return l.pool.Get().(*[]byte)
}

func (l *Streams) recycle(b *[]byte) {
	if len(*b) == smallFrame {
		l.pool.Put(b)
	}
}

// Serve serves the connections of listener and hands what arrives to h, until Close is called or the listener fails, whose error
// it returns. failed is told of errors of Accept that pass.
func (l *Streams) Serve(listener net.Listener, h Handler, failed func(error)) (err error) {
	var accepting sync.WaitGroup
	accepting.Go(func() {
		err = l.accept(listener, failed)
		l.Close()
	})
	l.handleFrames(h)
	h.End(time.Now())
	_ = listener.Close()
	accepting.Wait()
	l.endStreams()
	return err
}

// handleFrames hands frames to h until the link is closed.
func (l *Streams) handleFrames(h Handler) {
	for {
		select {
		case f := <-l.frames:
			from := session.Client{Tuple: f.from.tuple, Stream: f.from}
			if f.buf == nil {
				h.Gone(from, time.Now())
				continue
			}
			h.Handle((*f.buf)[:f.n], from, time.Now())
			l.recycle(f.buf)
		case <-l.timer.C:
			h.Tick(time.Now())
		case <-l.woken:
			h.Tick(time.Now())
		case <-l.ctx.Done():
			return
		}
	}
}

// SetAlarm implements session.Link.
func (l *Streams) SetAlarm(t time.Time) {
	l.timer.Stop()
	if !t.IsZero() {
		l.timer.Reset(time.Until(t))
	}
}

// Wake implements session.Link.
func (l *Streams) Wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// Send implements session.Link.
func (l *Streams) Send(b []byte, to session.Client, p session.Priority) error {
	return to.Stream.(*stream).enqueue(b, p)
}

// Full implements session.Link: connections have queues of their own, and the sessions of DTLS look after their socket.
func (l *Streams) Full(time.Time) bool { return false }

// Allocated implements session.Link.
func (l *Streams) Allocated(c session.Client, has bool) {
	s := c.Stream.(*stream)
	s.allocated(has)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unallocated.Remove(s)
	if _, live := l.streams[s]; live && !has {
		l.unallocated.Add(s, c.Tuple.Client.Addr())
	}
}

// Close has Serve return. Safe for concurrent use.
func (l *Streams) Close() { l.cancel() }

// endStreams ends all connections and waits for their goroutines. Frames are no longer taken.
func (l *Streams) endStreams() {
	l.mu.Lock()
	l.closed = true
	for s := range l.streams {
		s.giveUp()
	}
	l.mu.Unlock()
	l.serving.Wait()
	l.timer.Stop()
}
