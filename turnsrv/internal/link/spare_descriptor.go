package link

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// spareDescriptor is one descriptor that is held so that there is one when there are none: a connection that cannot be
// accepted waits in the listener's queue, its client in the dark, and Accept fails at once for as long as it is there.
// The zero value holds nothing. It belongs to the goroutine that accepts.
type spareDescriptor struct {
	open func() (io.Closer, error) // nil opens the null device
	held io.Closer
}

// hold takes a descriptor, if there is one and none is held, and reports whether one is held now.
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

// accept takes the connection that Accept of listener failed for with err, if that was for want of a descriptor. It
// returns the connection if there are descriptors again, and otherwise closes it, so that its client learns that it has to
// go elsewhere.
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

// release gives the descriptor back.
func (s *spareDescriptor) release() {
	if s.held != nil {
		_ = s.held.Close()
		s.held = nil
	}
}
