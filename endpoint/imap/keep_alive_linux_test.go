package imap

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/endpoint/imap/patient"
)

// TestKeepAlive checks that clients' connections use patient.KeepAlive.
func TestKeepAlive(t *testing.T) {
	e := start(t, testConfig(t))
	dialPlain(t, e)
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.sessions {
		if idle, want := option(t, s.conn.Conn, unix.TCP_KEEPIDLE), int(patient.KeepAlive().Idle.Seconds()); idle != want {
			t.Errorf("probed after %d s, want %d", idle, want)
		}
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
