package link

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// spareDescriptor holds a file descriptor in reserve for when the process has none left. A connection that cannot be accepted
// stays in the listener's queue: its client waits, and every Accept fails immediately. The zero value holds nothing. It is
// owned by the goroutine that accepts.
type spareDescriptor struct {
	open func() (io.Closer, error) // nil opens the null device
	held io.Closer
}

// hold opens a descriptor unless one is held already, and reports whether one is held now.
func (s *spareDescriptor) hold() bool {
	if s.held != nil {
		return true
	}
	open := s.open
	if open == nil {
		open = func() (io.Closer, error) { return os.Open(os.DevNull) }
	}
	held, err := open()
	if err != nil {
		return false
	}
	s.held = held
	return true
}

// accept retries an Accept of listener that failed with err because of a lack of descriptors. It returns the connection if
// descriptors are available again. Otherwise it closes the connection, so that its client does not wait in vain.
func (s *spareDescriptor) accept(listener net.Listener, err error) net.Conn {
	if s.held == nil || !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
		return nil
	}
	s.release()
	conn, err := listener.Accept()
	if s.hold() || err != nil {
		return conn
	}
	_ = conn.Close()
	s.hold()
	return nil
}

// release closes the descriptor.
func (s *spareDescriptor) release() {
	if s.held != nil {
		_ = s.held.Close()
		s.held = nil
	}
}
