package imap

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/backend"
	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
)

// A deadlineBackend is a server over a pipe that has deadlines, as a socket has.
type deadlineBackend struct{ scriptBackend }

func (b deadlineBackend) Dial(context.Context, origin.Origin) (backend.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		b.s(&wire{b.t, theirs, newReader(theirs)})
	}()
	return patient.New(ours), nil
}

// replaceBackend makes an endpoint in a bubble use the script as its server.
func replaceBackend(t *testing.T, e *Endpoint, s script) {
	e.present.backend.Close()
	e.present.backend = deadlineBackend{scriptBackend{t, s}}
}

// TestSlowClient checks that a client that reads slowly, or pauses, receives all of a large message.
func TestSlowClient(t *testing.T) {
	const size = 1 << 20
	for _, tt := range []struct {
		name     string
		piece    int // bytes, and then the client pauses
		pause    time.Duration
		compress bool
	}{
		{"trickle", 100, time.Second, false},
		{"pauses", bufferSize, 29 * time.Minute, false},
		{"trickle of compressed data", 1, time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := startPipes(t, testConfig(t))
				replaceBackend(t, e, func(w *wire) {
					fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
					w.readLine()
					fmt.Fprintf(w.conn, "* 1 FETCH (BODY[] {%d}\r\n%s)\r\na OK done\r\n", size, strings.Repeat("0123456789abcdef", size/16))
					io.Copy(io.Discard, w.r)
				})
				w := dialPipe(t, e, outside, false)
				w.expect(`\* PREAUTH`)
				if tt.compress {
					w.send("z COMPRESS DEFLATE\r\n")
					w.expect("z OK")
				}
				slow := slowReader{w.conn, tt.piece, tt.pause}
				w.r = bufio.NewReaderSize(slow, bufferSize)
				if tt.compress {
					w.conn = newDeflateConn(slow, w.r)
					w.r = newReader(w.conn)
				}
				// A pipe has no buffer: the end of a flush may be read only after the answer has begun.
				go io.WriteString(w.conn, "a FETCH 1 BODY[]\r\n")
				w.expect(`\* 1 FETCH`)
				if n, err := io.CopyN(io.Discard, w.r, size); err != nil {
					t.Fatalf("got %d bytes of %d: %v", n, size, err)
				}
				w.expect(`\)`)
				w.expect(`a OK`)
			})
		})
	}
}

// A slowReader pauses before each read.
type slowReader struct {
	net.Conn
	piece int
	pause time.Duration
}

func (r slowReader) Read(p []byte) (int, error) {
	time.Sleep(r.pause)
	return r.Conn.Read(p[:min(len(p), r.piece)])
}

// TestStalledBackend checks that a client's message arrives although the server reads nothing for a while.
func TestStalledBackend(t *testing.T) {
	const size = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		e := startPipes(t, testConfig(t))
		replaceBackend(t, e, func(w *wire) {
			fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "+ go ahead\r\n")
			time.Sleep(29 * time.Minute)
			n, err := io.CopyN(io.Discard, w.r, size)
			fmt.Fprintf(w.conn, "a OK %d bytes, %v\r\n", n, err)
			io.Copy(io.Discard, w.r)
		})
		w := dialPipe(t, e, outside, false)
		w.expect(`\* PREAUTH`)
		w.send("a APPEND INBOX {%d+}\r\n%s\r\n", size, strings.Repeat("x", size))
		w.expect(fmt.Sprintf("a OK %d bytes, <nil>", size))
	})
}

// TestStallEnds checks that a side that reads nothing for idle_timeout, or before login for login_timeout, ends the session.
func TestStallEnds(t *testing.T) {
	flood := func(w *wire) { // sends more than anybody reads
		for {
			if _, err := w.conn.Write(bytes.Repeat([]byte("* OK still here\r\n"), 1000)); err != nil {
				return
			}
		}
	}
	for _, tt := range []struct {
		name   string
		server script
		client func(w *wire)
		want   time.Duration
	}{
		{"client after login", func(w *wire) {
			fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
			flood(w)
		}, func(*wire) {}, 31 * time.Minute},
		{"client before login", func(w *wire) {
			fmt.Fprint(w.conn, "* OK ready\r\n")
			flood(w)
		}, func(*wire) {}, time.Minute},
		{"server after login", func(w *wire) {
			fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
			<-w.t.Context().Done()
		}, flood, 31 * time.Minute},
		{"server before login", func(w *wire) {
			fmt.Fprint(w.conn, "* OK ready\r\n")
			<-w.t.Context().Done()
		}, flood, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := startPipes(t, testConfig(t))
				replaceBackend(t, e, tt.server)
				w := dialPipe(t, e, outside, false)
				w.expect(`\* (OK|PREAUTH)`)
				begin := time.Now()
				go tt.client(w)
				time.Sleep(tt.want - time.Second)
				if n := e.sessionCount(); n != 1 {
					t.Fatalf("the session ended before %v", tt.want)
				}
				time.Sleep(byeTimeout + lingerTimeout + time.Second)
				synctest.Wait()
				if n := e.sessionCount(); n != 0 {
					t.Errorf("the session lives %v after the last progress", time.Since(begin))
				}
			})
		})
	}
}

func (e *Endpoint) sessionCount() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.sessions)
}

// TestEndOfSlowClient checks that what a server has sent before it closed the connection reaches a client that reads later,
// although the client sends something meanwhile.
func TestEndOfSlowClient(t *testing.T) {
	const size = 512 << 10
	server := listenTCP(t)
	ended := make(chan struct{})
	e := startUpstream(t, server, *upstreamAt("tcp", server), func(w *wire) {
		fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
		w.readLine()
		fmt.Fprintf(w.conn, "* 1 FETCH (BODY[] {%d}\r\n%s)\r\na OK done\r\n", size, strings.Repeat("x", size))
		close(ended)
	})
	w := newWire(t, dialTCP(t, e, 1))
	w.conn.(*net.TCPConn).SetReadBuffer(32 << 10)
	w.expect(`\* PREAUTH`)
	w.send("a FETCH 1 BODY[]\r\n")
	w.expect(`\* 1 FETCH`)
	<-ended
	time.Sleep(lingerTimeout + 500*time.Millisecond) // in which a client that has received everything would have closed
	w.send("b NOOP\r\n")
	if n, err := io.CopyN(io.Discard, w.r, size); err != nil {
		t.Fatalf("got %d bytes of %d: %v", n, size, err)
	}
	w.expect(`\)`)
	w.expect(`a OK`)
	w.expectEnd()
}
