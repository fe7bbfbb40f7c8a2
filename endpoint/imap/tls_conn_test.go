package imap

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/mailturn/mailturn/endpoint/imap/patient"
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

// A countingConn records its writes, and fails after enough of them.
type countingConn struct {
	net.Conn
	writes [][]byte
	enough int // 0 for never
}

func (c *countingConn) Write(p []byte) (int, error) {
	if c.enough > 0 && len(c.writes) == c.enough {
		return 0, io.ErrClosedPipe
	}
	c.writes = append(c.writes, bytes.Clone(p))
	return c.Conn.Write(p)
}

// TestTLSConnWrites checks that the client receives what is written, and that it is sent in one write.
func TestTLSConnWrites(t *testing.T) {
	certificate, _ := testCertificate(t)
	ours, theirs := tcpPair(t)
	counting := &countingConn{Conn: ours}
	server := newTLSConn(patient.New(counting), &tls.Config{Certificates: []tls.Certificate{certificate}, DynamicRecordSizingDisabled: true})
	client := tls.Client(theirs, &tls.Config{InsecureSkipVerify: true})
	handshake := make(chan error, 1)
	go func() { handshake <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-handshake; err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, recordSize, recordSize + 1, bufferSize, 3*bufferSize + 7} {
		want := bytes.Repeat([]byte("mail "), size/5+1)[:size]
		got := make([]byte, size)
		read := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(client, got)
			read <- err
		}()
		counting.writes = nil
		if n, err := server.Write(want); n != size || err != nil {
			t.Fatalf("Write of %d bytes: %d, %v", size, n, err)
		}
		if err := <-read; err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("of %d bytes, the client received others", size)
		}
		if len(counting.writes) != 1 {
			t.Errorf("%d bytes were sent in %d writes, want 1", size, len(counting.writes))
		}
	}

	counting.writes, counting.enough = [][]byte{nil}, 1
	if _, err := server.Write(make([]byte, bufferSize)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a write that fails returns %v", err)
	}
}

// TestRecordConnOrder checks that what the reading goroutine writes between gather and flush is sent in order.
func TestRecordConnOrder(t *testing.T) {
	ours, theirs := tcpPair(t)
	counting := &countingConn{Conn: ours}
	c := &recordConn{Conn: patient.New(counting)}
	go io.Copy(io.Discard, theirs)
	c.gather()
	io.WriteString(c, "record ")
	io.WriteString(c, "alert ")
	if len(counting.writes) != 0 {
		t.Errorf("written before flush: %q", counting.writes)
	}
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "later")
	if want := [][]byte{[]byte("record alert "), []byte("later")}; !slices.EqualFunc(counting.writes, want, bytes.Equal) {
		t.Errorf("wrote %q, want %q", counting.writes, want)
	}
}
