package link

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestHandshakesAreLimited starts many handshakes at the same time, and some clients that send nothing. Only as many as the limit
// allows may compute at the same time, and all must succeed.
func TestHandshakesAreLimited(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limit := max(runtime.NumCPU()/2, 1)
	clients := 2*limit + 10
	certificate := turntest.TestCertificate(t)
	var computing, most atomic.Int32
	release := make(chan struct{})
	inner := &heardListener{Listener: listener}
	inner.heard.Add(clients)
	l := NewStreams(100, nil, new(count.Counters))
	l.LimitHandshakes(NewHandshakes())
	var serving sync.WaitGroup
	serving.Go(func() {
		config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			now := computing.Add(1)
			defer computing.Add(-1)
			for before := most.Load(); now > before && !most.CompareAndSwap(before, now); before = most.Load() {
			}
			<-release
			return &certificate, nil
		}}
		_ = l.Serve(NewTLSListener(inner, config), new(loopHandler), func(error) {})
	})
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	for range 2 * limit {
		dial() // says nothing
	}
	var done sync.WaitGroup
	for range clients {
		conn := tls.Client(dial(), &tls.Config{InsecureSkipVerify: true})
		done.Go(func() {
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if err := conn.Handshake(); err != nil {
				t.Error(err)
			}
		})
	}
	inner.heard.Wait()
	for range clients {
		release <- struct{}{}
	}
	done.Wait()
	if got := int(most.Load()); got > limit {
		t.Errorf("%d handshakes computed at the same time, want at most %d", got, limit)
	}
	l.Close()
	serving.Wait()
}

// TestDisplacedHandshakeEnds displaces a connection whose handshake is waiting for its turn to compute. It must end immediately.
func TestDisplacedHandshakeEnds(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limit := NewHandshakes()
	for range cap(limit.slots) {
		limit.slots <- struct{}{} // others compute
	}
	l := NewStreams(1, nil, new(count.Counters))
	l.LimitHandshakes(limit)
	inner := &heardListener{Listener: listener}
	inner.heard.Add(1)
	certificate := turntest.TestCertificate(t)
	var serving sync.WaitGroup
	serving.Go(func() {
		_ = l.Serve(NewTLSListener(inner, &tls.Config{Certificates: []tls.Certificate{certificate}}), new(loopHandler), func(error) {})
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	first, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_ = first.SetDeadline(time.Now().Add(HandshakeTimeout / 2))
	ended := make(chan error, 1)
	go func() { ended <- tls.Client(first, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	inner.heard.Wait()
	second, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := <-ended; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the handshake of a displaced connection: %v, want the connection closed", err)
	}
}

// heardListener reports when the first bytes of its connections have been read.
type heardListener struct {
	net.Listener
	heard sync.WaitGroup
}

func (l *heardListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &heardConn{Conn: conn, listener: l}, nil
}

type heardConn struct {
	net.Conn
	listener *heardListener
	once     sync.Once
}

func (c *heardConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.once.Do(c.listener.heard.Done)
	}
	return n, err
}
