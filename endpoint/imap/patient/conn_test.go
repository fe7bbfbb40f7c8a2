package patient

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

// tcpPair returns the two ends of a TCP connection.
func tcpPair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if theirs, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	if ours, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return ours, theirs
}

// readPatiently reads as a session does: until nothing has arrived, and then it waits.
func readPatiently(r io.Reader, await func(time.Duration) bool, p []byte) (int, error) {
	for {
		n, err := r.Read(p)
		if !errors.Is(err, ErrNothingYet) {
			return n, err
		}
		await(0)
	}
}

func TestPatientConn(t *testing.T) {
	ours, theirs := tcpPair(t)
	c := New(ours)
	c.BeginPatience()
	p := make([]byte, 16)
	if n, err := c.Read(p); n != 0 || err != error(ErrNothingYet) {
		t.Fatalf("before anything arrived: got %d, %v", n, err)
	}
	for _, text := range []string{"first", "second", "the third is longer than what is read at once"} {
		go io.WriteString(theirs, text)
		var got []byte
		for len(got) < len(text) {
			n, err := readPatiently(c, c.Await, p)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, p[:n]...)
		}
		if string(got) != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}

	// Bytes that arrive between a read and the wait for more end the wait, although the runtime has seen them before.
	other, others := tcpPair(t)
	for range 100 {
		if _, err := c.Read(p); err != error(ErrNothingYet) {
			t.Fatal(err)
		}
		io.WriteString(theirs, "x")
		go io.WriteString(others, "y")
		other.Read(p)
		if n, err := readPatiently(c, c.Await, p); n != 1 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}

	c.Read(p)
	for range 2 {
		if !c.Await(time.Millisecond) {
			t.Error("Await does not report that the limit has passed")
		}
	}
	if _, err := c.Read(p); err != error(ErrNothingYet) {
		t.Errorf("after a limit: %v", err)
	}
	go io.WriteString(theirs, "x")
	if c.Await(time.Hour) {
		t.Error("Await reports quiet although something has arrived")
	}
	if n, err := c.Read(p); n != 1 || err != nil {
		t.Errorf("after a limit that did not pass: %d, %v", n, err)
	}

	// The deadline that limits Await stays, but is no error of a later read or wait.
	io.WriteString(theirs, "x")
	if c.Await(time.Millisecond) {
		t.Error("Await reports quiet although something has arrived")
	}
	for c.raw.Read(func(uintptr) bool { return true }) == nil { // until the deadline has passed
	}
	if n, err := c.Read(p); n != 1 || err != nil {
		t.Errorf("after the deadline of Await: %d, %v", n, err)
	}

	// Nor does it end a later wait too early, or too late.
	io.WriteString(theirs, "x")
	c.Await(20 * time.Millisecond)
	c.Read(p)
	time.Sleep(10 * time.Millisecond)
	if begin := time.Now(); !c.Await(20*time.Millisecond) || time.Since(begin) < 20*time.Millisecond {
		t.Errorf("Await reports quiet after %v, want 20ms or more", time.Since(begin))
	}
	io.WriteString(theirs, "x")
	c.Await(time.Hour)
	c.Read(p)
	if !c.Await(time.Millisecond) {
		t.Error("Await does not report that the shorter limit has passed")
	}

	c.SetReadDeadline(time.Unix(1, 0))
	c.Await(0) // returns at once
	if c.Await(time.Hour) {
		t.Error("Await reports quiet after a deadline")
	}
	if _, err := c.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after a deadline: %v", err)
	}
	c.SetReadDeadline(time.Time{})
	go c.SetReadDeadline(time.Unix(1, 0))
	if _, err := readPatiently(c, c.Await, p); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline that passes meanwhile: %v", err)
	}
	c.SetReadDeadline(time.Time{})

	c.EndPatience()
	go io.WriteString(theirs, "waited for")
	if n, err := c.Read(p); err != nil || string(p[:n]) != "waited for" {
		t.Errorf("without patience: %q, %v", p[:n], err)
	}
	c.BeginPatience()
	go theirs.Close()
	if n, err := readPatiently(c, c.Await, p); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	c.Close()
	if _, err := readPatiently(c, c.Await, p); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestPatientConnTLS checks that TLS continues after a record that arrives in pieces, and that of several records that arrive
// together, all are read before the next wait.
func TestPatientConnTLS(t *testing.T) {
	pair, _, err := certs.SelfSigned(t.TempDir(), []string{"imap.example.org"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := certs.ReadPair(pair)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := tcpPair(t)
	c := New(ours)
	server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*certificate}})
	pieces := &piecewiseConn{Conn: theirs}
	client := tls.Client(pieces, &tls.Config{InsecureSkipVerify: true})
	handshake := make(chan error, 1)
	go func() { handshake <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-handshake; err != nil {
		t.Fatal(err)
	}
	c.BeginPatience()

	want := bytes.Repeat([]byte("0123456789abcdef"), 3000)
	for _, size := range []int{1, 7, 500, len(want)} {
		pieces.size = size
		written := make(chan struct{})
		go func() {
			defer close(written)
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 5000)
				client.Write(rest[:n])
				rest = rest[n:]
			}
		}()
		got, p := []byte(nil), make([]byte, 64<<10)
		for len(got) < len(want) {
			n, err := readPatiently(server, c.Await, p)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, p[:n]...)
		}
		<-written
		if !bytes.Equal(got, want) {
			t.Errorf("in pieces of %d bytes: wrong bytes", size)
		}
	}
	go client.Close()
	if _, err := readPatiently(server, c.Await, make([]byte, 1)); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// A piecewiseConn writes pieces of size bytes, or everything together if that is 0.
type piecewiseConn struct {
	net.Conn
	size int
}

func (c *piecewiseConn) Write(p []byte) (written int, err error) {
	for written < len(p) && err == nil {
		var n int
		piece := p[written:]
		if c.size > 0 {
			piece = piece[:min(c.size, len(piece))]
		}
		n, err = c.Conn.Write(piece)
		written += n
	}
	return written, err
}

// TestPatientConnWrite checks that a write waits while the other end does not read, and what ends the wait.
func TestPatientConnWrite(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than the buffers of the system hold
	ours, theirs := tcpPair(t)
	c := New(ours)
	c.BeginPatience()
	got := make(chan []byte, 1)
	go func() {
		b := make([]byte, len(want))
		io.ReadFull(theirs, b)
		got <- b
	}()
	if n, err := c.Write(want); n != len(want) || err != nil {
		t.Fatalf("wrote %d bytes of %d: %v", n, len(want), err)
	}
	if !bytes.Equal(<-got, want) {
		t.Error("the bytes that arrived are not those that were written")
	}

	c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	if n, err := c.Write(want); n == 0 || n == len(want) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("with a deadline: %d, %v", n, err)
	}
	c.SetWriteDeadline(time.Time{})
	failed := make(chan error, 1)
	go func() {
		_, err := c.Write(want)
		failed <- err
	}()
	c.Close()
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed meanwhile: %v", err)
	}

	ours, theirs = tcpPair(t)
	c = New(ours)
	theirs.(*net.TCPConn).SetLinger(0)
	theirs.Close()
	for { // until the reset has arrived
		if _, err := c.Write([]byte("x")); err != nil {
			if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("after a reset: %v", err)
			}
			return
		}
	}
}
