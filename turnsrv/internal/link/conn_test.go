package link

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestTLSContinuesAfterEveryByte passes records to a tls.Conn one byte at a time. Whether a tls.Conn survives errLater depends on
// crypto/tls.
func TestTLSContinuesAfterEveryByte(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		near, far := net.Pipe()
		movable := NewConn(far)
		server := tls.Server(movable, &tls.Config{Certificates: []tls.Certificate{turntest.TestCertificate(t)}, SessionTicketsDisabled: true})
		recorder := &recordingConn{Conn: near}
		client := tls.Client(recorder, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
		done := make(chan error, 1)
		go func() { done <- server.Handshake() }()
		if err := errors.Join(client.Handshake(), <-done); err != nil {
			t.Fatal(err)
		}
		recorder.recording = true
		messages := []string{"hello", strings.Repeat("x", 20000), "", "you"}
		for _, m := range messages {
			if _, err := client.Write([]byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		polled := &polledConn{out: func(b []byte) { t.Errorf("the server sent %x", b) }}
		movable.polled.Store(polled)
		var got bytes.Buffer
		buf := make([]byte, maxRecord)
		stream := recorder.sent.Bytes()
		for i := range stream {
			polled.in = stream[i : i+1]
			for {
				n, err := server.Read(buf)
				got.Write(buf[:n])
				if _, later := errors.AsType[errLater](err); later {
					break
				}
				if err != nil {
					if i != len(stream)-1 {
						t.Fatalf("TLS version %x: %v after %d bytes of %d", version, err, i+1, len(stream))
					}
					break
				}
			}
		}
		if want := strings.Join(messages, ""); got.String() != want {
			t.Errorf("TLS version %x: got %d bytes of plaintext, want the %d that were sent", version, got.Len(), len(want))
		}
	}
}

// recordingConn keeps what is written to it.
type recordingConn struct {
	net.Conn
	recording bool
	sent      bytes.Buffer
}

func (c *recordingConn) Write(b []byte) (int, error) {
	if c.recording {
		return c.sent.Write(b)
	}
	return c.Conn.Write(b)
}

// TestPeek checks that the byte returned by Peek is read first, and only once.
func TestPeek(t *testing.T) {
	near, far := net.Pipe()
	go func() {
		_, _ = near.Write([]byte("ab"))
		_ = near.Close()
	}()
	c := NewConn(far)
	for range 2 {
		if b, err := c.Peek(); b != 'a' || err != nil {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	var got []byte
	for buf := make([]byte, 10); ; {
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			break
		}
	}
	if string(got) != "ab" {
		t.Errorf("read %q", got)
	}
}
