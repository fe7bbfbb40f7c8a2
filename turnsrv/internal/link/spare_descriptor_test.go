package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
)

// descriptors simulates a process with a limited number of descriptors.
type descriptors struct{ free int }

func (d *descriptors) open() (io.Closer, error) {
	if d.free == 0 {
		return nil, syscall.EMFILE
	}
	d.free--
	return descriptor{d, nil}, nil
}

type descriptor struct {
	of *descriptors
	net.Conn
}

func (d descriptor) Close() error { d.of.free++; return nil }

// scarceListener has pending connections and accepts one for each free descriptor.
type scarceListener struct {
	*descriptors
	waiting int
}

func (l *scarceListener) Accept() (net.Conn, error) {
	if l.free == 0 {
		return nil, fmt.Errorf("accept: %w", syscall.EMFILE)
	}
	if l.waiting == 0 {
		return nil, errors.New("no pending connection")
	}
	l.free--
	l.waiting--
	return descriptor{l.descriptors, nil}, nil
}
func (l *scarceListener) Close() error   { return nil }
func (l *scarceListener) Addr() net.Addr { return nil }

func TestT04SpareDescriptor(t *testing.T) {
	d := &descriptors{free: 1}
	l := &scarceListener{descriptors: d, waiting: 2}
	s := spareDescriptor{open: d.open}
	emfile := fmt.Errorf("accept: %w", syscall.EMFILE)
	if s.accept(l, emfile) != nil || l.waiting != 2 {
		t.Fatal("without a spare descriptor there is nothing to accept with")
	}
	for range 2 { // one is enough
		if !s.hold() || d.free != 0 {
			t.Fatalf("%d descriptors are free, want none and one held", d.free)
		}
	}
	if conn := s.accept(l, fmt.Errorf("accept: %w", syscall.ECONNABORTED)); conn != nil || l.waiting != 2 {
		t.Error("another error is taken for a want of descriptors")
	}
	if conn := s.accept(l, emfile); conn != nil || l.waiting != 1 || d.free != 0 || s.held == nil {
		t.Errorf("served %v, %d wait, %d free; want the first one closed and the descriptor held again", conn, l.waiting, d.free)
	}
	d.free++ // somebody has closed something meanwhile
	if conn := s.accept(l, emfile); conn == nil || l.waiting != 0 || d.free != 0 || s.held == nil {
		t.Errorf("served %v, %d wait, %d free; want the second one served and the descriptor held again", conn, l.waiting, d.free)
	}
	if conn := s.accept(l, emfile); conn != nil || s.held == nil {
		t.Error("without a pending connection, a connection was served or the descriptor was lost")
	}
	s.release()
	s.release()
	if d.free != 1 {
		t.Errorf("%d descriptors are free in the end, want the held one", d.free)
	}
}
