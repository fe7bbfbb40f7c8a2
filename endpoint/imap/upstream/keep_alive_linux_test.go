package upstream

import (
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
)

// TestKeepAlive checks that connections to the server use patient.KeepAlive.
func TestKeepAlive(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	var greeting atomic.Value
	greeting.Store("* OK ready\r\n")
	greet(listener, &greeting)
	u, err := New(Config{Addresses: []Address{{"tcp", listener.Addr().String()}}, ConnectTimeout: 10 * time.Second}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := u.Dial(t.Context(), origin.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if idle, want := option(t, conn.(*greetedConn).raw.Conn, unix.TCP_KEEPIDLE), int(patient.KeepAlive().Idle.Seconds()); idle != want {
		t.Errorf("probed after %d s, want %d", idle, want)
	}
}

func option(t *testing.T, conn net.Conn, name int) (value int) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if controlErr := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, name) }); controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	return value
}
