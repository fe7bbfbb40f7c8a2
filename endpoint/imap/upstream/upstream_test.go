package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/origin"
)

func TestOrder(t *testing.T) {
	var logged bytes.Buffer
	u, err := New(Config{Addresses: []Address{{"tcp", "a:1"}, {"tcp", "b:1"}, {"tcp", "c:1"}}},
		slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		expect := func(when, want string) {
			t.Helper()
			var got []string
			for _, target := range u.order(time.Now()) {
				got = append(got, target.address.Address[:1])
			}
			if strings.Join(got, "") != want {
				t.Errorf("%s: tried in the order %q, want %s", when, got, want)
			}
		}
		expect("at first", "abc")
		u.note(u.targets[0], true)
		expect("a failed", "bca")
		u.note(u.targets[1], true)
		expect("b failed too", "cab")
		time.Sleep(failureMemory - time.Second)
		u.note(u.targets[1], true)
		expect("b failed again", "cab")
		time.Sleep(time.Second)
		expect("a is forgiven", "acb")
		u.note(u.targets[1], false)
		expect("b answered", "abc")
	})
	if got := strings.Count(logged.String(), "backend failed"); got != 2 {
		t.Errorf("failures are logged %d times, want once for each of the two:\n%s", got, &logged)
	}
	if got := strings.Count(logged.String(), "answers again"); got != 1 {
		t.Errorf("a recovery is logged %d times, want once:\n%s", got, &logged)
	}
}

// TestDialGivenUp checks that a dial that its caller cancels does not count against the server.
func TestDialGivenUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	u, err := New(Config{Addresses: []Address{{"tcp", listener.Addr().String()}}, ConnectTimeout: time.Minute}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if conn, err := listener.Accept(); err == nil { // and no greeting
			defer conn.Close()
			cancel()
			io.Copy(io.Discard, conn)
		}
	}()
	if _, err := u.Dial(ctx, origin.Origin{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if !u.targets[0].failed.IsZero() {
		t.Error("the server counts as failed")
	}
}

// TestServerName checks that without tls_server_name the certificate must be for the host of the address.
func TestServerName(t *testing.T) {
	u, err := New(Config{Addresses: []Address{
		{"tls", "imap.example.org:993"}, {"starttls", "[2001:db8::1]:143"}, {"tcp", "127.0.0.1:143"},
	}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"imap.example.org", "2001:db8::1"} {
		if got := u.targets[i].tls.ServerName; got != want {
			t.Errorf("%v: name is %q, want %q", u.targets[i].address, got, want)
		}
	}
	if u.targets[2].tls != nil {
		t.Error("tcp:// has TLS")
	}
}
