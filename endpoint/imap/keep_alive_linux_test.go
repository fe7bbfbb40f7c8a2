package imap

import (
	"fmt"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKeepAlive: a client whose network is away for minutes is not given up, and one in IDLE is left alone for as long.
func TestKeepAlive(t *testing.T) {
	server := listenTCP(t)
	e := startUpstream(t, server, *upstreamAt("tcp", server), func(w *wire) {
		fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
		io.Copy(io.Discard, w.r)
	})
	w := newWire(t, dialTCP(t, e, 1))
	w.expect(`\* PREAUTH`)
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.sessions {
		for name, conn := range map[string]net.Conn{"client": s.conn.Conn, "server": s.backend.(*greetedConn).raw.Conn} {
			idle, interval, count := option(t, conn, unix.TCP_KEEPIDLE), option(t, conn, unix.TCP_KEEPINTVL), option(t, conn, unix.TCP_KEEPCNT)
			if userTimeout := option(t, conn, unix.TCP_USER_TIMEOUT); userTimeout != 0 {
				t.Errorf("%s: TCP_USER_TIMEOUT is %d ms, which ends connections that pause for as long", name, userTimeout)
			}
			if seconds := interval * count; idle < 300 || seconds < 300 {
				t.Errorf("%s: probed after %d s, given up %d s later, want 300 each", name, idle, seconds)
			}
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
