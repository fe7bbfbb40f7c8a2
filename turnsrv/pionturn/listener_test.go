package pionturn

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/turn/v4"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// pipes is a listener whose connections are made by net.Pipe and have TCP addresses.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

type pipe struct {
	net.Conn
	client net.Addr
}

func (p pipe) RemoteAddr() net.Addr { return p.client }
func (pipe) LocalAddr() net.Addr    { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error   { close(l.closed); return nil }
func (l *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478} }

// dial returns the client's end of a new connection.
func (l *pipes) dial(port int) net.Conn {
	near, far := net.Pipe()
	l.conns <- pipe{far, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: port}}
	return near
}

// inBubble runs f in a synctest bubble with a server of pipes.
func inBubble(t *testing.T, change func(*Config), f func(s *Server, l *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t)
		if change != nil {
			change(&config)
		}
		s, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- s.ServeStream(l) }()
		f(s, l)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != ErrServerClosed {
			t.Errorf("ServeStream returned %v", err)
		}
		synctest.Wait()
		if len(s.streams) != 0 || len(s.relayed) != 0 {
			t.Errorf("%d connections and %d relayed addresses are left", len(s.streams), len(s.relayed))
		}
	})
}

func bindingRequest() []byte {
	var b stun.Builder
	b.Start(stun.MethodBinding, stun.ClassRequest, stun.TransactionID{1})
	return b.Bytes()
}

// serves reports whether a Binding request is answered.
func serves(t *testing.T, conn net.Conn) bool {
	t.Helper()
	if _, err := conn.Write(bindingRequest()); err != nil {
		return false
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	_, err := conn.Read(make([]byte, 100))
	return err == nil
}

// isClosed reports whether the server has closed the connection.
func isClosed(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// TestOldestConnectionGivesWay fills a listener with connections without an allocation.
func TestOldestConnectionGivesWay(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxStreams = 2 }, func(s *Server, l *pipes) {
		first, second := l.dial(1), l.dial(2)
		if !serves(t, first) || !serves(t, second) {
			t.Error("a connection is not served")
		}
		third := l.dial(3)
		if !serves(t, third) {
			t.Error("the new connection is not served")
		}
		if !isClosed(first) || isClosed(second) {
			t.Error("want the oldest connection closed, and no other")
		}
		// Connections with an allocation are kept, even if there is no room for others.
		for _, c := range s.streams {
			c.listener.allocated(c, true)
		}
		if fourth := l.dial(4); !isClosed(fourth) {
			t.Error("there are more connections than MaxStreams")
		}
		if !serves(t, second) || !serves(t, third) {
			t.Error("a connection with an allocation was closed")
		}
	})
}

// TestHandshakeEnds checks the timeout of a TLS handshake whose client stops sending.
func TestHandshakeEnds(t *testing.T) {
	inBubble(t, nil, func(_ *Server, l *pipes) {
		near, far := net.Pipe()
		l.conns <- &silentHandshake{pipe{far, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}}}
		begin := time.Now()
		if _, err := near.Read(make([]byte, 1)); err == nil || time.Since(begin) != handshakeTimeout {
			t.Errorf("the connection ended after %v with %v, want %v", time.Since(begin), err, handshakeTimeout)
		}
	})
}

// silentHandshake is a connection whose handshake waits for its client.
type silentHandshake struct{ pipe }

func (c *silentHandshake) HandshakeContext(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestShortChannelData checks that data of up to four bytes does not wait for the next message.
func TestShortChannelData(t *testing.T) {
	for _, size := range []int{0, 1, 3, 4, 5, 100} {
		message := append([]byte{0x40, 0, 0, byte(size)}, bytes.Repeat([]byte("x"), size)...)
		for len(message)%4 != 0 {
			message = append(message, 0)
		}
		near, far := net.Pipe()
		c := newStream(t, far)
		go near.Write(append(bindingRequest(), message...))
		conn, buf := turn.NewSTUNConn(c), make([]byte, 1600)
		for _, want := range [][]byte{bindingRequest(), message} {
			if n, from, err := conn.ReadFrom(buf); err != nil || !bytes.Equal(buf[:n], want) || from != c.client {
				t.Errorf("%d bytes of data: pion reads %x from %v, %v, want %x", size, buf[:n], from, err, want)
			}
		}
		near.Close()
	}
}

// newStream returns a connection as pion receives it.
func newStream(t testing.TB, conn net.Conn) *stream {
	t.Helper()
	s, err := New(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	return &stream{
		Conn: conn, listener: newListener(s, nil), reader: bufio.NewReader(conn), first: true,
		client: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, server: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478},
	}
}

// FuzzStream reads arbitrary bytes with pion's framing through that of this package. It must terminate and return only messages
// that the stream contains.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0x40, 0x00, 0xFF, 0xFC, 1, 2, 3, 4, 5})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(append(bindingRequest(), 0x40, 0, 0, 1, 'x', 0, 0, 0))
	f.Add(append(bindingRequest(), 0x40, 0, 0, 8, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0))
	f.Add(append(bindingRequest(), 0x40, 0, 0xFF, 0xFC, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, allocated := range []bool{false, true} {
			c := newStream(t, nil)
			c.reader = bufio.NewReader(bytes.NewReader(b))
			c.has.Store(allocated)
			conn, buf, total := turn.NewSTUNConn(c), make([]byte, 1600), 0
			for {
				n, _, err := conn.ReadFrom(buf)
				if err != nil {
					break
				}
				if total += n; n == 0 || total > len(b)*(1+len(filler)) {
					t.Fatalf("%d bytes of messages in a stream of %d", total, len(b))
				}
			}
		}
	})
}
