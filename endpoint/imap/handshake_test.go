package imap

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/patient"
	"github.com/mailturn/mailturn/framework/listen"
)

// TestHandshakeTimeout checks that nothing that a client does extends the time for its handshake.
func TestHandshakeTimeout(t *testing.T) {
	for _, tt := range []struct {
		name   string
		client func(conn net.Conn)
	}{
		{"silence", func(net.Conn) {}},
		{"one byte a second", func(conn net.Conn) {
			conn.Write([]byte{22, 3, 1, 2, 0}) // the header of a record of 512 bytes
			for {
				if _, err := conn.Write([]byte{0}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}},
	} {
		for _, startTLS := range []bool{false, true} {
			name := tt.name
			if startTLS {
				name += " after STARTTLS"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					e := startPipes(t, testConfig(t))
					w := dialPipe(t, e, outside, !startTLS)
					if startTLS {
						w.expect(`\* OK`)
						w.send("a STARTTLS\r\n")
						w.expect(`a OK`)
					}
					begin := time.Now()
					done := make(chan struct{})
					go func() {
						tt.client(w.conn)
						close(done)
					}()
					w.expectEnd()
					if took := time.Since(begin); took != handshakeTimeout {
						t.Errorf("ended after %v, want %v", took, handshakeTimeout)
					}
					<-done
				})
			})
		}
	}
}

// TestHandshakeOfClientThatDoesNotRead checks that login_timeout limits what the time for the handshake does not: a write to a client
// whose system's buffers are full, as a pipe's always is.
func TestHandshakeOfClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startPipes(t, testConfig(t))
		w := dialPipe(t, e, outside, true)
		begin := time.Now()
		go tls.Client(deafConn{w.conn}, &tls.Config{InsecureSkipVerify: true}).Handshake()
		time.Sleep(time.Minute + byeTimeout)
		synctest.Wait()
		if n := e.sessionCount(); n != 0 {
			t.Errorf("the session lives after %v", time.Since(begin))
		}
	})
}

// A deafConn reads nothing.
type deafConn struct{ net.Conn }

func (deafConn) Read([]byte) (int, error) { return 0, io.EOF }

// TestAfterHandshake checks that the time for the handshake does not limit what follows.
func TestAfterHandshake(t *testing.T) {
	for _, startTLS := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e := startPipes(t, testConfig(t))
			ours, theirs := net.Pipe()
			conn := &deadlineRecorder{Conn: ours}
			l := &listener{addr: listen.Addr{Scheme: "tls"}}
			if startTLS {
				l.addr.Scheme = "tcp"
			}
			e.admit(conn, l)
			w := newPipeWire(t, theirs)
			if startTLS {
				w.expect(`\* OK`)
				w.send("a STARTTLS\r\n")
				w.expect(`a OK`)
			}
			w = newPipeWire(t, tls.Client(w.conn, clientTLS(t, e)))
			if !startTLS {
				w.expect(`\* OK`)
			}
			w.login()
			if deadline := *conn.last.Load(); !deadline.IsZero() {
				t.Errorf("after the handshake, the deadline of reads is in %v", time.Until(deadline))
			}
			theirs.Close()
		})
	}
}

// A deadlineRecorder records the last deadline of reads.
type deadlineRecorder struct {
	net.Conn
	last atomic.Pointer[time.Time]
}

func (c *deadlineRecorder) SetReadDeadline(t time.Time) error {
	c.last.Store(&t)
	return c.Conn.SetReadDeadline(t)
}

func (*deadlineRecorder) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(outside) }

// TestWakeBeforeHandshake checks that the deadline of a handshake does not replace that of wake, whichever comes first.
func TestWakeBeforeHandshake(t *testing.T) {
	for _, deadline := range []time.Time{time.Now().Add(time.Hour), {}} {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		s := &session{client: newClientConn(patient.New(ours)), woken: make(chan struct{}, 1)}
		s.wake()
		s.limitReads(deadline)
		go func() { // so that the test does not hang
			theirs.SetDeadline(time.Now().Add(5 * time.Second))
			io.WriteString(theirs, "x")
		}()
		if _, err := s.client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline %v: %v, want the deadline of wake", deadline, err)
		}
	}
}

// TestShutdownDuringHandshake checks that a client in the middle of its handshake does not delay Shutdown.
func TestShutdownDuringHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startPipes(t, testConfig(t))
		silent := dialPipe(t, e, outside, true)
		starting := dialPipe(t, e, outside, false)
		starting.expect(`\* OK`)
		starting.send("a STARTTLS\r\n")
		starting.expect(`a OK`)
		synctest.Wait()
		begin := time.Now()
		if err := e.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("Shutdown took %v", took)
		}
		silent.expectEnd()
		starting.expectEnd()
	})
}
