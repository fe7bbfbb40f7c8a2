package link

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// gate stops the goroutine that accepts connections, and lets it go on.
type gate struct {
	accepting sync.Mutex // held while a connection is accepted, and while the gate is shut

	mu       sync.Mutex // guards what follows
	isShut   bool
	listener net.Listener // set before the first call of accept
}

// deadliner is a listener that can be told to stop waiting, such as *net.TCPListener.
type deadliner interface{ SetDeadline(time.Time) error }

// shut returns when no connection is being accepted any more. It returns errors.ErrUnsupported if the listener cannot stop.
func (g *gate) shut() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isShut {
		return nil
	}
	timed, ok := g.listener.(deadliner)
	if !ok {
		return errors.ErrUnsupported
	}
	if err := timed.SetDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	g.accepting.Lock()
	g.isShut = true
	return nil
}

// open undoes shut.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.isShut {
		return
	}
	if timed, ok := g.listener.(deadliner); ok {
		_ = timed.SetDeadline(time.Time{})
	}
	g.isShut = false
	g.accepting.Unlock()
}

// accept waits until the gate is open, accepts a connection and calls take with it.
func (g *gate) accept(l net.Listener, take func(net.Conn)) error {
	g.accepting.Lock()
	defer g.accepting.Unlock()
	conn, err := l.Accept()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // see shut
		return nil
	case err != nil:
		return err
	}
	take(conn)
	return nil
}
