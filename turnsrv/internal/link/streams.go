package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// maxFrames is the number of frames from all connections that can wait for the handler. A reader blocks while there is no room,
// so that TCP slows down its client.
const maxFrames = 256

// smallFrame is the size of pooled frame buffers. Few frames are larger.
const smallFrame = 2048

// Streams serves the clients of a stream listener, each over its own connection, or a share of them: see Share.
type Streams struct {
	counters   *count.Counters
	places     *places
	handshakes *Handshakes // nil if they are not limited
	shares     []*Streams  // get connections in turn; the first is the Streams itself
	accepted   int         // number of connections so far; owned by the goroutine that accepts
	spare      spareDescriptor
	gate       gate
	// associations is the listener if it is one of DTLS.
	associations *DTLSListener
	begun        chan struct{} // closed when connections are accepted, unless the gate is shut
	finished     chan struct{} // closed when Serve returns
	loop         *loop.Loop    // on whose goroutine the handler is called; nil if Serve calls it
	handler      Handler
	ended        bool // the handler is not called any more; owned by the goroutine of the handler
	alarm        *loop.Alarm
	buffers      streamBuffers
	expire       expiry      // the streams on the loop without an allocation
	expired      *loop.Alarm // calls expire
	posted       atomic.Bool // Tick has been posted

	frames chan frame
	woken  chan struct{} // holds one token
	timer  *time.Timer
	ctx    context.Context // cancelled when the link ends, to end handshakes
	cancel context.CancelFunc
	pool   sync.Pool // of *[]byte, smallFrame long

	mu      sync.Mutex // guards closed
	closed  bool
	serving sync.WaitGroup
}

// frame is one message of a stream. A frame without a buffer marks the end of its stream.
type frame struct {
	from *stream
	buf  *[]byte
	n    int
}

// NewStreams returns a link with at most maxStreams connections. Its handler is called on the goroutine of on, or by Serve if on
// is nil.
func NewStreams(maxStreams int, on *loop.Loop, c *count.Counters) *Streams {
	l := newStreams(context.Background(), newPlaces(maxStreams), on, c)
	l.shares = []*Streams{l}
	return l
}

// LimitHandshakes makes the handshakes of l count towards a limit. It must be called before Share and Serve.
func (l *Streams) LimitHandshakes(h *Handshakes) { l.handshakes = h }

// Share makes on, another event loop, serve a share of the connections that l accepts. handler returns the handler of the link to
// which they belong. Share must be called before Serve.
func (l *Streams) Share(on *loop.Loop, handler func(share *Streams) Handler) {
	share := newStreams(l.ctx, l.places, on, l.counters)
	share.handshakes = l.handshakes
	share.begin(handler(share))
	l.shares = append(l.shares, share)
}

func newStreams(ctx context.Context, p *places, on *loop.Loop, c *count.Counters) *Streams {
	l := &Streams{
		counters: c, places: p, loop: on, begun: make(chan struct{}), finished: make(chan struct{}),
		frames: make(chan frame, maxFrames), woken: make(chan struct{}, 1), timer: time.NewTimer(0),
		pool: sync.Pool{New: func() any { b := make([]byte, smallFrame); return &b }},
	}
	l.timer.Stop()
	l.ctx, l.cancel = context.WithCancel(ctx)
	return l
}

// accept serves the connections of listener until the listener or the link is closed. After a temporary error, such as a lack
// of descriptors, it waits and retries. In the meantime connections are closed rather than left in the queue.
func (l *Streams) accept(listener net.Listener, failed func(error)) error {
	defer l.spare.release()
	for backoff := time.Duration(0); ; {
		l.spare.hold()
		err := l.gate.accept(listener, l.distribute)
		if err == nil {
			backoff = 0
			continue
		}
		if errors.Is(err, net.ErrClosed) || l.ctx.Err() != nil {
			return err
		}
		failed(err)
		if conn := l.spare.accept(listener, err); conn != nil {
			l.distribute(conn)
		}
		backoff = min(backoff*2+5*time.Millisecond, time.Second)
		select {
		case <-time.After(backoff):
		case <-l.ctx.Done():
		}
	}
}

// distribute gives conn to one of the links that share the connections.
func (l *Streams) distribute(conn net.Conn) {
	l.accepted++
	l.shares[l.accepted%len(l.shares)].start(conn)
}

// start serves conn on a new goroutine, at least until its handshake is complete.
func (l *Streams) start(conn net.Conn) {
	s := newStream(l, conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return
	}
	displaced, ok := l.places.take(s, s.tuple.Client.Addr())
	if displaced != nil {
		displaced.giveUp()
	}
	if displaced != nil || !ok {
		l.counters.StreamsRefused.Add(1)
	}
	if !ok {
		_ = conn.Close()
		return
	}
	l.serving.Add(1)
	l.counters.Streams.Add(1)
	go func() {
		if moved := s.serve(); !moved {
			l.remove(s)
		}
	}()
}

// adopt is start for a connection that a loop serves at once, whatever the limits are. It reports whether the link is still open.
func (l *Streams) adopt(s *stream) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.places.adopt(s)
	l.serving.Add(1)
	l.counters.Streams.Add(1)
	return true
}

// remove undoes what start did for s.
func (l *Streams) remove(s *stream) {
	l.counters.Streams.Add(-1)
	l.places.leave(s)
	l.serving.Done()
}

// deliver passes f to the handler and reports whether the link still accepts frames.
func (l *Streams) deliver(f frame) bool {
	if l.loop != nil {
		return l.post(f)
	}
	select {
	case l.frames <- f:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// post passes f to the handler on the event loop.
func (l *Streams) post(f frame) bool {
	if f.buf == nil {
		l.loop.Post(func() { l.gone(f.from) })
		return l.ctx.Err() == nil
	}
	defer l.recycle(f.buf)
	var none *loop.Loop
	for !none.Pass(l.loop, f.from, f.from.tuple.Client, (*f.buf)[:f.n]) {
		select {
		case <-time.After(time.Millisecond): // the loop has too much to do; meanwhile TCP slows down the client
		case <-l.ctx.Done():
			return false
		}
	}
	return true
}

// Receive implements loop.Receiver.
func (s *stream) Receive(b []byte, _ netip.AddrPort, _ netip.Addr, now time.Time) {
	from := session.Client{Tuple: s.tuple, Stream: s}
	if s.tuple.Transport == event.DTLS {
		handleInTurn(s.link.loop, b, from, now, s, s.link.counters)
		return
	}
	s.handle(b, from, now) // TCP does not retransmit what was dropped here: see loopStream.ready
}

// handle passes a message to the handler, unless the link or the connection has ended while the message waited.
func (s *stream) handle(b []byte, from session.Client, now time.Time) {
	if !s.link.ended && !s.left {
		s.link.handler.Handle(b, from, now)
	}
}

// gone tells the handler that a connection has ended.
func (l *Streams) gone(s *stream) {
	s.left = true
	if !l.ended {
		l.handler.Gone(session.Client{Tuple: s.tuple, Stream: s}, time.Now())
	}
}

// buffer returns a buffer of at least n bytes, which the caller recycles.
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

// Serve serves the connections of listener and passes their messages to h until Close is called or the listener fails. It
// returns the error of the listener. failed is called with temporary errors of Accept.
func (l *Streams) Serve(listener net.Listener, h Handler, failed func(error)) (err error) {
	defer close(l.finished)
	l.begin(h)
	close(l.begun)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		err = l.accept(listener, failed)
		l.Close()
	})
	if l.loop == nil {
		l.handleFrames(h)
	}
	<-l.ctx.Done()
	_ = listener.Close()
	l.gate.open()
	accepting.Wait()
	for _, share := range l.shares {
		share.end()
	}
	return err
}

// begin prepares the link for connections.
func (l *Streams) begin(h Handler) {
	if l.handler = h; l.loop == nil {
		return
	}
	l.loop.Do(func() {
		l.alarm = l.loop.NewAlarm(h.Tick)
		l.expired = l.loop.NewAlarm(func(now time.Time) {
			l.expire.run(now, func(s *stream) { s.onLoop.end() })
		})
		l.expire.alarm = l.expired.Set
	})
}

// end ends the handler, then all connections, and waits for their goroutines. No more connections or frames are accepted.
func (l *Streams) end() {
	if l.loop == nil {
		l.handler.End(time.Now())
	} else {
		l.loop.Do(func() {
			l.ended = true
			l.handler.End(time.Now())
			l.loop.RemoveAlarm(l.alarm)
			l.loop.RemoveAlarm(l.expired)
		})
	}
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	for _, s := range l.places.of(l) {
		s.giveUp()
	}
	l.serving.Wait()
	l.timer.Stop()
	l.cancel()
}

// handleFrames passes frames to h until the link is closed.
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
	if l.loop != nil {
		l.alarm.Set(t)
		return
	}
	l.timer.Stop()
	if !t.IsZero() {
		l.timer.Reset(time.Until(t))
	}
}

// Wake implements session.Link.
func (l *Streams) Wake() {
	if l.loop != nil {
		if l.posted.CompareAndSwap(false, true) {
			l.loop.Post(func() {
				if l.posted.Store(false); !l.ended {
					l.handler.Tick(time.Now())
				}
			})
		}
		return
	}
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// Send implements session.Link.
func (l *Streams) Send(b []byte, to session.Client, p session.Priority, payload int, sender session.Sender) {
	s := to.Stream.(*stream)
	if s.onLoop != nil {
		s.onLoop.send(b, to, p, payload, sender)
		return
	}
	sender.Sent(payload, s.enqueue(b, p))
}

// Full implements session.Link. Connections have queues of their own; DTLS associations share a socket.
func (l *Streams) Full(now time.Time) bool {
	return l.associations != nil && l.associations.socket.Full(now)
}

// Allocated implements session.Link.
func (l *Streams) Allocated(c session.Client, has bool) {
	s := c.Stream.(*stream)
	s.allocated(has)
	l.places.allocated(s, has, c.Tuple.Client.Addr())
}

// Close makes Serve return. Safe for concurrent use.
func (l *Streams) Close() { l.cancel() }

// Listen sets the listener for Serve. Suspend and Owns need it.
func (l *Streams) Listen(listener net.Listener) {
	l.gate.listener = listener
	l.associations, _ = listener.(*DTLSListener)
}

// Hold makes the link accept no connections until Resume is called. DTLS associations are accepted, but no packet begins one while the
// loops are suspended. It returns errors.ErrUnsupported for a listener that cannot stop.
func (l *Streams) Hold() error {
	if l.associations != nil {
		return nil
	}
	return l.gate.shut()
}

// address returns the address of the listener.
func (l *Streams) address() netip.AddrPort { return udp.AddrPortOf(l.gate.listener.Addr()) }
