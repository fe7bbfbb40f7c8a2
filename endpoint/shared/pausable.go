package shared

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// pausable is a listener whose connections can be left in its queue for a while.
type pausable struct {
	net.Listener
	closed    chan struct{}
	closeOnce sync.Once

	mu     sync.Mutex    // guards paused
	paused chan struct{} // closed at the end of the pause; nil if there is none
}

// Accept implements net.Listener.
func (l *pausable) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return conn, err
		}
		l.mu.Lock()
		paused := l.paused
		l.mu.Unlock()
		if paused == nil {
			continue
		}
		select {
		case <-paused:
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

// pause has no effect on a listener that consists of several: see systemd.Listeners.
func (l *pausable) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	timed, ok := l.Listener.(interface{ SetDeadline(time.Time) error })
	if ok && l.paused == nil {
		l.paused = make(chan struct{})
		_ = timed.SetDeadline(time.Unix(1, 0)) // fails if it is closed
	}
}

func (l *pausable) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paused != nil {
		_ = l.Listener.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Time{})
		close(l.paused)
		l.paused = nil
	}
}

// Close implements net.Listener.
func (l *pausable) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
