package link

import (
	"crypto/tls"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestNoDelay checks that media is sent immediately on both kinds of connections: an audio packet that waits for the next one
// (Nagle's algorithm) arrives too late. Go sets TCP_NODELAY by default.
func TestNoDelay(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.NewListener(inner, &tls.Config{Certificates: []tls.Certificate{turntest.TestCertificate(t)}})
	looked := 0
	for _, listener := range []net.Listener{plain, secure} {
		l := NewStreams(10, nil, new(count.Counters))
		h := heard(make(chan session.Client, 1))
		var serving sync.WaitGroup
		serving.Go(func() { _ = l.Serve(listener, h, func(error) {}) })
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if listener == secure {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		var b stun.Builder
		b.Start(stun.MethodBinding, stun.ClassRequest, stun.TransactionID{1})
		if _, err := conn.Write(b.Bytes()); err != nil {
			t.Fatal(err)
		}
		from := <-h
		if looked++; !noDelay(t, from.Stream.(*stream).conn) {
			t.Errorf("a connection over %v waits before it sends", from.Tuple.Transport)
		}
		_ = conn.Close()
		l.Close()
		serving.Wait()
	}
	if looked != 2 {
		t.Errorf("looked at %d connections, want 2", looked)
	}
}

func noDelay(t *testing.T, conn net.Conn) bool {
	t.Helper()
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var value int
	var failed error
	if err := raw.Control(func(fd uintptr) {
		value, failed = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return value != 0
}

// heard is a handler that reports the sender of each message.
type heard chan session.Client

func (h heard) Handle(_ []byte, from session.Client, _ time.Time) { h <- from }
func (heard) Gone(session.Client, time.Time)                      {}
func (heard) Tick(time.Time)                                      {}
func (heard) End(time.Time)                                       {}
