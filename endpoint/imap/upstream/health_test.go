package upstream

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/origin"
)

// greet sends the current greeting on each connection to listener, and counts them.
func greet(listener net.Listener, greeting *atomic.Value) *atomic.Int32 {
	count := new(atomic.Int32)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			go func() {
				defer conn.Close()
				fmt.Fprint(conn, greeting.Load())
				io.Copy(io.Discard, conn)
			}()
		}
	}()
	return count
}

// TestHealth checks that Health reports a server that does not answer, with and without a recent client, and does not connect each
// time.
func TestHealth(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	address := listener.Addr().String()
	var greeting atomic.Value
	greeting.Store("* OK ready\r\n")
	connections := greet(listener, &greeting)
	u, err := New(Config{Addresses: []Address{{"tcp", address}}, ConnectTimeout: 10 * time.Second}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	want := func(when, part string) {
		t.Helper()
		err := u.Health()
		if part == "" && err != nil || part != "" && (err == nil || !strings.Contains(err.Error(), part)) {
			t.Errorf("%s: %v, want %q", when, err, part)
		}
	}
	forget := func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.lastDial = time.Now().Add(-healthMemory)
	}
	client := func() (err error) {
		conn, err := u.Dial(t.Context(), origin.Origin{})
		if err == nil {
			conn.Close()
		}
		return err
	}
	want("at first", "")
	want("again", "")
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want one", n)
	}
	greeting.Store("* BYE busy\r\n")
	forget()
	want("the server refuses this client", "")
	greeting.Store("* hello\r\n")
	want("nobody has looked", "")
	if err := client(); err == nil {
		t.Error("a client is connected to a server that does not speak IMAP")
	}
	want("a client has looked", "not an IMAP greeting")
	greeting.Store("* OK ready\r\n")
	if err := client(); err != nil {
		t.Error(err)
	}
	want("another client has looked", "")
	listener.Close()
	forget()
	want("the server is gone", address)
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	greet(again, &greeting)
	forget()
	want("the server is back", "")
}
