package pionturn

import (
	"bufio"
	"container/list"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// handshakeTimeout is the maximum duration of a TLS handshake.
	handshakeTimeout = 10 * time.Second
	// unallocatedTimeout is the maximum lifetime of a connection without an allocation, whatever it sends.
	unallocatedTimeout = 30 * time.Second
	// maxUnallocated is the maximum number of connections of a listener without an allocation. A genuine client requires its place
	// for a few round trips.
	maxUnallocated = 4096
)

// listener accepts the connections of another listener, limits their number, and passes them to pion after their handshake. pion
// stops serving at the first error of its listener, so Accept returns none until the listener is closed.
type listener struct {
	net.Listener
	pion      *Server
	ctx       context.Context // ends when Close is called
	cancel    context.CancelFunc
	ready     chan *stream
	ended     chan struct{} // closed when no more connections are accepted
	accepting sync.Once

	mu          sync.Mutex // guards what follows, and the deadlines of connections
	shut        bool
	streams     map[*stream]struct{}
	unallocated *list.List // the streams without an allocation, oldest first
}

func newListener(s *Server, inner net.Listener) *listener {
	l := &listener{
		Listener: inner, pion: s, ready: make(chan *stream), ended: make(chan struct{}),
		streams: make(map[*stream]struct{}), unallocated: list.New(),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Accept implements net.Listener. Nothing is accepted before its first call.
func (l *listener) Accept() (net.Conn, error) {
	l.accepting.Do(func() { go l.accept() })
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

// Close closes the listener and all its connections. It may be called more than once.
func (l *listener) Close() error {
	l.cancel()
	l.accepting.Do(func() { close(l.ended) }) // nobody has called Accept
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		return nil
	}
	l.shut = true
	err := l.Listener.Close()
	for c := range l.streams {
		l.giveUpLocked(c)
	}
	return err
}

// accept runs until the listener is closed.
func (l *listener) accept() {
	defer close(l.ended)
	for wait := time.Duration(0); ; {
		conn, err := l.Listener.Accept()
		switch {
		case err == nil:
			wait = 0
			l.start(conn)
		case errors.Is(err, net.ErrClosed) || l.ctx.Err() != nil:
			return
		default:
			l.pion.log.info("accept", "cannot accept connections", "err", err)
			wait = nextWait(wait)
			select {
			case <-time.After(wait):
			case <-l.ctx.Done():
			}
		}
	}
}

// start performs the handshake of a connection on a new goroutine, and then passes the connection to pion.
func (l *listener) start(conn net.Conn) {
	c := &stream{Conn: conn, listener: l}
	if !l.admit(c) {
		_ = conn.Close()
		return
	}
	go func() {
		if err := l.handshake(c); err != nil {
			_ = c.Close()
			return
		}
		select {
		case l.ready <- c:
		case <-l.ended:
			_ = c.Close()
		}
	}()
}

// admit registers a connection and reports whether there was room. If there are too many, it gives up the oldest one without an
// allocation.
func (l *listener) admit(c *stream) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.streams) >= l.pion.config.MaxStreams || l.unallocated.Len() >= maxUnallocated {
		if oldest := l.unallocated.Front(); oldest != nil {
			l.giveUpLocked(oldest.Value.(*stream))
		}
	}
	if l.shut || len(l.streams) >= l.pion.config.MaxStreams {
		return false
	}
	l.streams[c] = struct{}{}
	c.place = l.unallocated.PushBack(c)
	return true
}

// handshake performs the TLS handshake, if there is one, and prepares c for pion.
func (l *listener) handshake(c *stream) error {
	start := time.Now()
	if conn, ok := c.Conn.(interface {
		HandshakeContext(context.Context) error
	}); ok {
		ctx, cancel := context.WithTimeout(l.ctx, handshakeTimeout)
		defer cancel()
		if err := conn.HandshakeContext(ctx); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, live := l.streams[c]; !live {
		return net.ErrClosed
	}
	// If a proxy sends the client's address, it is known only now.
	c.client, c.server = c.Conn.RemoteAddr(), c.Conn.LocalAddr()
	if client, ok := c.client.(*net.TCPAddr); ok {
		own := *client // so that no other connection has the same pointer
		c.client = &own
	}
	c.reader, c.first = bufio.NewReader(c.Conn), true
	l.pion.setStream(c.client, c)
	return c.Conn.SetDeadline(start.Add(unallocatedTimeout))
}

// allocated keeps the connection open while it has an allocation, and for unallocatedTimeout after that. A connection that was
// given up ends regardless.
func (l *listener) allocated(c *stream, has bool) {
	c.has.Store(has)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, live := l.streams[c]; !live {
		return
	}
	if c.place != nil {
		l.unallocated.Remove(c.place)
		c.place = nil
	}
	deadline := time.Time{}
	if !has {
		c.place = l.unallocated.PushBack(c)
		deadline = time.Now().Add(unallocatedTimeout)
	}
	_ = c.Conn.SetDeadline(deadline)
}

// giveUpLocked makes the goroutine that reads c close it and return.
func (l *listener) giveUpLocked(c *stream) {
	l.forgetLocked(c)
	_ = c.Conn.SetDeadline(time.Unix(1, 0))
}

// forget removes c.
func (l *listener) forget(c *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetLocked(c)
}

func (l *listener) forgetLocked(c *stream) {
	delete(l.streams, c)
	if c.place != nil {
		l.unallocated.Remove(c.place)
		c.place = nil
	}
	if c.client != nil {
		l.pion.forget(c.client)
		l.pion.setStream(c.client, nil)
	}
}
