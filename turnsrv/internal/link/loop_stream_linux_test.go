package link

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// loopHandler is a Handler that calls functions of a test.
type loopHandler struct {
	handle func(b []byte, from session.Client)
	gone   func(from session.Client)
}

func (h *loopHandler) Handle(b []byte, from session.Client, _ time.Time) { h.handle(b, from) }
func (h *loopHandler) Gone(from session.Client, _ time.Time) {
	if h.gone != nil {
		h.gone(from)
	}
}
func (*loopHandler) Tick(time.Time) {}
func (*loopHandler) End(time.Time)  {}

// nobody is a sender that ignores results.
type nobody struct{}

func (nobody) Sent(int, error) {}

// refusal is a sender that records the result.
type refusal struct{ err error }

func (r *refusal) Sent(_ int, err error) { r.err = err }

// onLoop runs a test with a TCP listener and with a TLS listener, whose connections are served by a loop. The handler is called on
// that loop.
func onLoop(t *testing.T, test func(t *testing.T, l *Streams, h *loopHandler, connect func() net.Conn)) {
	for _, transport := range []event.Transport{event.TCP, event.TLS} {
		t.Run(transport.String(), func(t *testing.T) {
			on, err := loop.New(loop.Options{Panicked: func(any, []byte) {}})
			if err != nil {
				t.Fatal(err)
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr := listener.Addr().String()
			if transport == event.TLS {
				listener = NewTLSListener(listener, &tls.Config{Certificates: []tls.Certificate{turntest.TestCertificate(t)}})
			}
			var c count.Counters
			l, h := NewStreams(10, on, &c), new(loopHandler)
			var serving sync.WaitGroup
			serving.Go(func() { _ = l.Serve(listener, h, func(error) {}) })
			t.Cleanup(func() {
				l.Close()
				serving.Wait()
				on.Close()
				if n := c.Streams.Load(); n != 0 {
					t.Errorf("%d connections are left", n)
				}
			})
			test(t, l, h, func() net.Conn {
				on.Do(func() {}) // orders what the test has given to h before its use
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				if transport == event.TLS {
					return tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
				}
				return conn
			})
		})
	}
}

func binding() []byte {
	var b stun.Builder
	b.Start(stun.MethodBinding, stun.ClassRequest, stun.TransactionID{1})
	return b.Bytes()
}

func write(t *testing.T, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

// TestLoopEchoes sends messages in pieces of every size and checks that they come back unchanged and in order.
func TestLoopEchoes(t *testing.T) {
	onLoop(t, func(t *testing.T, l *Streams, h *loopHandler, connect func() net.Conn) {
		h.handle = func(b []byte, from session.Client) {
			if from.Stream.(*stream).onLoop == nil {
				t.Error("the connection is not served by the loop")
			}
			l.Allocated(from, true)
			l.Send(b, from, session.Control, 0, nobody{})
		}
		sent := binding()
		for size := range 70 {
			sent = append(sent, turntest.ChannelData(0x4000, strings.Repeat("x", size))...)
			for len(sent)%4 != 0 {
				sent = append(sent, 0)
			}
		}
		sent = append(sent, turntest.ChannelData(0x4000, strings.Repeat("y", 65532))...)
		for _, piece := range []int{1, 3, 100, 1 << 20} {
			conn := connect()
			go func() {
				for b := sent; len(b) > 0; {
					n := min(piece, len(b))
					if len(b) > 60000 {
						n = min(max(n, 100), len(b)) // keeps the number of records down
					}
					if _, err := conn.Write(b[:n]); err != nil {
						t.Error(err)
						return
					}
					b = b[n:]
				}
			}()
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("in pieces of %d bytes: what came back differs, %v", piece, err)
			}
		}
	})
}

// TestLoopDropsNewestMedia sends to a client that does not read. New media is dropped, responses are kept, and everything that was
// kept arrives in order when the client reads again.
func TestLoopDropsNewestMedia(t *testing.T) {
	onLoop(t, func(t *testing.T, l *Streams, h *loopHandler, connect func() net.Conn) {
		var accepted []string
		filled := make(chan session.Client)
		h.handle = func(_ []byte, from session.Client) {
			// The socket accepts some megabytes, at the end of each round.
			var fill func()
			fill = func() {
				for n := 0; ; n++ {
					text := fmt.Sprintf("%08d%s", len(accepted), strings.Repeat("x", 992))
					var r refusal
					l.Send(turntest.ChannelData(0x4000, text), from, session.Media, 0, &r)
					if r.err == nil {
						accepted = append(accepted, text)
						continue
					}
					if !errors.Is(r.err, session.ErrQueue) {
						t.Error(r.err)
					}
					if n > 0 {
						l.loop.AfterRound(func() { l.loop.Post(fill) })
						return
					}
					break
				}
				l.Send(binding(), from, session.Control, 0, nobody{})
				filled <- from
			}
			fill()
		}
		conn := connect()
		write(t, conn, binding())
		from := <-filled
		l.loop.Do(func() {
			if !from.Stream.(*stream).onLoop.(*loopStream).blocked {
				t.Error("the socket is not full")
			}
		})
		for i, text := range accepted {
			frame := make([]byte, stun.ChannelDataHeaderLen+len(text))
			if _, err := io.ReadFull(conn, frame); err != nil || string(frame[stun.ChannelDataHeaderLen:]) != text {
				t.Fatalf("message %d of %d: %.12q, %v", i, len(accepted), frame[stun.ChannelDataHeaderLen:], err)
			}
		}
		answer := make([]byte, len(binding()))
		if _, err := io.ReadFull(conn, answer); err != nil || !bytes.Equal(answer, binding()) {
			t.Errorf("the answer is %x, %v", answer, err)
		}
		// After that the queue is empty and holds no memory.
		l.loop.Do(func() {
			if f := from.Stream.(*stream).onLoop.(*loopStream); f.blocked || f.sent != 0 || cap(f.out) > KeepBuffer {
				t.Errorf("blocked %v, %d bytes sent, %d bytes of memory", f.blocked, f.sent, cap(f.out))
			}
		})
	})
}

// TestLoopEndsWhoLosesAnswers fills the queue with responses. The connection must end without waiting for its client.
func TestLoopEndsWhoLosesAnswers(t *testing.T) {
	onLoop(t, func(t *testing.T, l *Streams, h *loopHandler, connect func() net.Conn) {
		ended := make(chan struct{})
		h.handle = func(_ []byte, from session.Client) {
			message := turntest.ChannelData(0x4000, strings.Repeat("x", 10000))
			var r refusal
			for range maxControlQueue/len(message) + 1 {
				l.Send(message, from, session.Control, 0, &r)
			}
			if !errors.Is(r.err, session.ErrQueue) {
				t.Errorf("the last answer: %v", r.err)
			}
			if l.Send(message, from, session.Media, 0, &r); !errors.Is(r.err, net.ErrClosed) {
				t.Errorf("afterwards: %v", r.err)
			}
		}
		h.gone = func(session.Client) { close(ended) }
		write(t, connect(), binding())
		<-ended
	})
}

// TestLoopSendsOneRecordForEachMessage is TestOneRecordForEachMessage on a loop, which sends all records with one write.
func TestLoopSendsOneRecordForEachMessage(t *testing.T) {
	onLoop(t, func(t *testing.T, l *Streams, h *loopHandler, connect func() net.Conn) {
		messages := [][]byte{turntest.ChannelData(0x4000, "hell"), turntest.ChannelData(0x4000, ""), turntest.ChannelData(0x4001, "you")}
		h.handle = func(_ []byte, from session.Client) {
			for _, m := range messages {
				l.Send(m, from, session.Media, 0, nobody{})
			}
		}
		conn := connect()
		write(t, conn, binding())
		want := messages
		if _, encrypted := conn.(*tls.Conn); !encrypted {
			want = [][]byte{bytes.Join(messages, nil)}
		}
		for _, m := range want {
			buf := make([]byte, 1600)
			n, err := conn.Read(buf)
			for len(m)%4 != 0 {
				m = append(m, 0)
			}
			if err != nil || !bytes.Equal(buf[:n], m) {
				t.Errorf("read %x, %v, want %x", buf[:n], err, m)
			}
		}
	})
}

// TestLoopEndsMalformedStreams checks that malformed frames, and frames that are too long for an unauthenticated client, are
// counted and end the connection.
func TestLoopEndsMalformedStreams(t *testing.T) {
	onLoop(t, func(t *testing.T, l *Streams, h *loopHandler, connect func() net.Conn) {
		gone := make(chan struct{}, 1)
		h.gone = func(session.Client) { gone <- struct{}{} }
		h.handle = func([]byte, session.Client) { t.Error("a message arrived") }
		long := binding()
		binary.BigEndian.PutUint16(long[2:], maxUnallocatedFrame)
		for i, hello := range [][]byte{[]byte("GET / HTTP/1.1\r\n"), long} {
			conn := connect()
			write(t, conn, hello)
			<-gone
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("the connection is open")
			}
			if n := l.counters.Dropped[event.DropMalformed].Load(); n != uint64(i+1) {
				t.Errorf("%d were counted, want %d", n, i+1)
			}
		}
	})
}

// TestLoopPanicEndsOneStream makes the handler panic at the first of two messages. The second one must not be processed.
func TestLoopPanicEndsOneStream(t *testing.T) {
	onLoop(t, func(t *testing.T, l *Streams, h *loopHandler, connect func() net.Conn) {
		first, gone := true, make(chan struct{})
		h.gone = func(session.Client) { close(gone) }
		h.handle = func(b []byte, from session.Client) {
			if first {
				first = false
				panic("first")
			}
			l.Send(b, from, session.Control, 0, nobody{})
		}
		broken := connect()
		write(t, broken, append(binding(), binding()...))
		<-gone
		if n, err := broken.Read(make([]byte, 1)); err == nil {
			t.Errorf("the client got %d bytes", n)
		}
		h.gone = nil
		other := connect()
		write(t, other, binding())
		if _, err := io.ReadFull(other, make([]byte, len(binding()))); err != nil {
			t.Errorf("another client: %v", err)
		}
	})
}
