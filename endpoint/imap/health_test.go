package imap

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestHealth: an endpoint whose server does not answer is not healthy, whether clients have seen that or nobody has asked lately;
// and asking is not connecting each time.
func TestHealth(t *testing.T) {
	server := listenTCP(t)
	var greeting atomic.Value
	greeting.Store("* OK ready\r\n")
	config := testConfig(t)
	config.Upstream = upstreamAt("tcp", server)
	connections := serveScript(t, server, func(w *wire) {
		fmt.Fprint(w.conn, greeting.Load())
		io.Copy(io.Discard, w.r)
	})
	e := start(t, config)
	backend := e.present.backend.(*upstream)
	want := func(when, part string) {
		t.Helper()
		err := e.Health()
		if part == "" && err != nil || part != "" && (err == nil || !strings.Contains(err.Error(), part)) {
			t.Errorf("%s: %v, want %q", when, err, part)
		}
	}
	forget := func() {
		backend.mu.Lock()
		defer backend.mu.Unlock()
		backend.lastDial = time.Now().Add(-healthMemory)
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
	newWire(t, dialTCP(t, e, 1)).expect(`\* BYE \[UNAVAILABLE\]`)
	want("a client has looked", "not an IMAP greeting")
	greeting.Store("* OK ready\r\n")
	newWire(t, dialTCP(t, e, 1)).expect(`\* OK`)
	want("another client has looked", "")
	server.Close()
	forget()
	want("the server is gone", server.Addr().String())
	again, err := net.Listen("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	serveScript(t, again, func(w *wire) { fmt.Fprint(w.conn, "* OK ready\r\n") })
	forget()
	want("the server is back", "")

	if err := start(t, testConfig(t)).Health(); err != nil {
		t.Errorf("embedded: %v", err)
	}
}
