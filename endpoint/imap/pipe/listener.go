package pipe

import (
	"net"
	"sync"
)

// A Listener passes the server's ends of pipes to a server's accept loop.
type Listener struct {
	conns     chan net.Conn
	closed    chan struct{} // closed by Close, which is called once
	accepting chan struct{} // closed by the first Accept
	first     sync.Once
}

// NewListener returns a listener that accepts the connections passed to Offer.
func NewListener() *Listener {
	return &Listener{conns: make(chan net.Conn), closed: make(chan struct{}), accepting: make(chan struct{})}
}

// Offer passes conn to the accept loop, or returns net.ErrClosed.
func (l *Listener) Offer(conn net.Conn) error {
	select {
	case l.conns <- conn:
		return nil
	case <-l.closed:
		return net.ErrClosed
	}
}

// Accepting returns a channel that is closed by the first Accept.
func (l *Listener) Accepting() <-chan struct{} { return l.accepting }

// Accept returns the next connection passed to Offer, or net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	l.first.Do(func() { close(l.accepting) })
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Offer. It must be called only once.
func (l *Listener) Close() error {
	close(l.closed)
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return addr{} }
