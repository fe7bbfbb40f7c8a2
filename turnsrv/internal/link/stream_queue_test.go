package link

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestNewestMediaIsDropped checks that a client that does not read gets the oldest media and all responses.
func TestNewestMediaIsDropped(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	var c count.Counters
	s := newStream(NewStreams(1, nil, &c), far)
	numbered := func(n int) []byte {
		return turntest.ChannelData(0x4000, fmt.Sprintf("%04d", n)+strings.Repeat("x", 996))
	}
	fits := MaxMediaQueue / len(numbered(0))
	var want []byte
	for n := range fits + 10 {
		if err := s.enqueue(numbered(n), session.Media); (err == nil) != (n < fits) {
			t.Errorf("message %d of %d that fit: %v", n, fits, err)
		}
		if n < fits {
			want = append(want, numbered(n)...)
		}
	}
	answer := []byte("answered")
	if err := s.enqueue(answer, session.Control); err != nil || s.shut {
		t.Errorf("the answer: %v, given up: %v", err, s.shut)
	}
	if want = append(want, answer...); !bytes.Equal(s.queue, want) {
		t.Errorf("the queue has %d bytes, want the first %d messages and the answer, %d bytes", len(s.queue), fits, len(want))
	}
}

func TestAnswersBeyondTheQueueEndTheConnection(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	var c count.Counters
	s := newStream(NewStreams(1, nil, &c), far)
	for range maxControlQueue/1000 + 1 {
		_ = s.enqueue(make([]byte, 1000), session.Control)
	}
	if !s.shut || len(s.queue) > maxControlQueue {
		t.Errorf("the queue has %d bytes, given up %v", len(s.queue), s.shut)
	}
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("the connection still reads")
	}
}

// turnutils_uclient reads only the first message of a TLS record.
func TestOneRecordForEachMessage(t *testing.T) {
	messages := [][]byte{turntest.ChannelData(0x4000, "hello"), turntest.ChannelData(0x4000, ""), turntest.ChannelData(0x4001, "you")}
	for transport, want := range map[event.Transport][][]byte{event.TCP: {bytes.Join(messages, nil)}, event.TLS: messages} {
		near, far := net.Pipe()
		var c count.Counters
		s := newStream(NewStreams(1, nil, &c), far)
		s.tuple.Transport = transport
		for _, m := range messages {
			_ = s.enqueue(m, session.Media)
		}
		written := make(chan struct{})
		go func() { defer close(written); s.write() }()
		for _, w := range want {
			buf := make([]byte, 1600)
			if n, err := near.Read(buf); err != nil || !bytes.Equal(buf[:n], w) { // a pipe keeps writes apart
				t.Errorf("%v: wrote %x, %v, want %x", transport, buf[:n], err, w)
			}
		}
		close(s.gone)
		<-written
		_ = near.Close()
	}
}

// TestGivenUpStaysGivenUp ends a connection while a request is in progress. An allocation made by that request must not keep the
// connection open.
func TestGivenUpStaysGivenUp(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	s := newStream(NewStreams(1, nil, new(count.Counters)), far)
	s.giveUp()
	s.allocated(true)
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection reads on: %v", err)
	}
}

// TestSlowReaderIsServed reads the queued data of a client little by little.
func TestSlowReaderIsServed(t *testing.T) {
	for _, transport := range []event.Transport{event.TCP, event.TLS} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			s := newStream(NewStreams(1, nil, new(count.Counters)), far)
			s.tuple.Transport = transport
			message, queued := turntest.ChannelData(0x4000, strings.Repeat("x", 996)), 0
			for ; queued+len(message) <= MaxMediaQueue; queued += len(message) {
				_ = s.enqueue(message, session.Media)
			}
			written := make(chan struct{})
			go func() { defer close(written); s.write() }()
			buf := make([]byte, 8<<10)
			for got := 0; got < queued; {
				time.Sleep(25 * time.Second)
				n, err := near.Read(buf)
				if err != nil {
					t.Fatalf("%v: %v after %d bytes of %d", transport, err, got, queued)
				}
				got += n
			}
			close(s.gone)
			<-written
		})
	}
}
