package systemd

import (
	"net"
	"sync"
)

// A joined listener accepts the connections of several sockets.
type joined struct {
	net.Listener // the first one, whose address it reports

	all       []net.Listener
	accepted  chan accepted
	closed    chan struct{}
	closeOnce sync.Once
	accepting sync.WaitGroup
}

type accepted struct {
	conn net.Conn
	err  error
}

// join returns a listener for all of these, or nil if there are none.
func join(listeners []net.Listener) net.Listener {
	switch len(listeners) {
	case 0:
		return nil
	case 1:
		return listeners[0]
	}
	j := &joined{Listener: listeners[0], all: listeners, accepted: make(chan accepted), closed: make(chan struct{})}
	for _, l := range listeners {
		j.accepting.Go(func() { j.acceptFrom(l) })
	}
	return j
}

// acceptFrom passes on what one socket accepts, until the listener is closed.
func (j *joined) acceptFrom(l net.Listener) {
	for {
		conn, err := l.Accept()
		select {
		case j.accepted <- accepted{conn, err}:
		case <-j.closed:
			if conn != nil {
				conn.Close()
			}
			return
		}
	}
}

// Accept returns the next connection or error of any of the sockets.
func (j *joined) Accept() (net.Conn, error) {
	select {
	case a := <-j.accepted:
		return a.conn, a.err
	case <-j.closed:
		return nil, net.ErrClosed
	}
}

// Close closes all sockets, and returns when no goroutine accepts from them any more.
func (j *joined) Close() error {
	err := net.ErrClosed
	j.closeOnce.Do(func() {
		close(j.closed)
		err = nil
		for _, l := range j.all {
			if closeErr := l.Close(); err == nil {
				err = closeErr
			}
		}
		j.accepting.Wait()
	})
	return err
}
