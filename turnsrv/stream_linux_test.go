package turnsrv

import (
	"crypto/tls"
	"net"
	"syscall"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestNoDelay wants media to leave at once on connections of both kinds: an audio packet that waits for the next one (Nagle's
// algorithm) comes too late. Go sets TCP_NODELAY of its own accord.
func TestNoDelay(t *testing.T) {
	server := startServer(t, testConfig(t))
	dial(t, "tcp", server.tcp).unsigned(stun.MethodBinding)
	secure, err := tls.Dial("tcp", server.tls.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	newRawClient(t, secure, true).unsigned(stun.MethodBinding)
	server.mu.Lock()
	defer server.mu.Unlock()
	looked := 0
	for served := range server.links {
		l, ok := served.(*streamLink)
		if !ok {
			continue
		}
		l.mu.Lock()
		for s := range l.streams {
			looked++
			if !noDelay(t, s.conn) {
				t.Errorf("a connection over %v waits before it sends", s.tuple.Transport)
			}
		}
		l.mu.Unlock()
	}
	if looked != 2 {
		t.Errorf("looked at %d connections, want 2", looked)
	}
}

func noDelay(t *testing.T, conn net.Conn) bool {
	t.Helper()
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var value int
	var failed error
	if err := raw.Control(func(fd uintptr) {
		value, failed = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return value != 0
}
