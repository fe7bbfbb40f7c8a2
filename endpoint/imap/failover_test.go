package imap

import (
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/upstream"
)

// serveScript runs the script for each connection to listener, and counts them.
func serveScript(t *testing.T, listener net.Listener, s script) *atomic.Int32 {
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
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				s(&wire{t, conn, newReader(conn)})
			}()
		}
	}()
	return count
}

// TestFailover checks that a server that cannot be connected to, or that does not send an IMAP greeting, is skipped, and not tried
// first for the next client.
func TestFailover(t *testing.T) {
	web, mute, good, spare := listenTCP(t), listenTCP(t), listenTCP(t), listenTCP(t)
	webCount := serveScript(t, web, func(w *wire) { fmt.Fprint(w.conn, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	muteCount := serveScript(t, mute, func(w *wire) { w.readLine() })
	serveScript(t, good, loginScript)
	spareCount := serveScript(t, spare, loginScript)
	config := testConfig(t)
	config.Upstream = upstreamAt("tcp", web, mute, good, spare)
	config.Upstream.Addresses = append([]upstream.Address{{Scheme: "unix", Address: filepath.Join(t.TempDir(), "nobody")}}, config.Upstream.Addresses...)
	config.Upstream.ConnectTimeout = time.Second
	e := start(t, config)
	for range 3 {
		checkUpstream(t, e)
	}
	if webCount.Load() != 1 || muteCount.Load() != 1 || spareCount.Load() != 0 {
		t.Errorf("asked %d, %d and %d times, want each broken server once and the spare one never", webCount.Load(), muteCount.Load(), spareCount.Load())
	}
	good.Close()
	checkUpstream(t, e) // the spare one
	spare.Close()
	w := newWire(t, dialTCP(t, e, 1))
	w.expect(`\* BYE \[UNAVAILABLE\] Mail server cannot be reached`)
	w.expectEnd()
	if webCount.Load() != 2 { // the last resort
		t.Errorf("a broken server was tried %d times, want 2: again when there was no other", webCount.Load())
	}
}

// TestByeIsNoFailure checks that after a server refuses a client, no other server is tried, and that the client receives the
// server's text.
func TestByeIsNoFailure(t *testing.T) {
	first, second := listenTCP(t), listenTCP(t)
	serveScript(t, first, func(w *wire) { fmt.Fprint(w.conn, "* BYE [ALERT] you are banned\r\n") })
	secondCount := serveScript(t, second, loginScript)
	config := testConfig(t)
	config.Upstream = upstreamAt("tcp", first, second)
	e := start(t, config)
	for range 2 {
		w := newWire(t, dialTCP(t, e, 1))
		w.expect(`\* BYE \[ALERT\] you are banned$`)
		w.expectEnd()
	}
	if secondCount.Load() != 0 {
		t.Error("another server was tried")
	}
}

// TestDialGivenUp checks that neither the login timeout nor Shutdown waits for a slow server, and that the server does not count as
// failed.
func TestDialGivenUp(t *testing.T) {
	mute := listenTCP(t)
	accepted := make(chan struct{}, 10)
	serveScript(t, mute, func(w *wire) {
		accepted <- struct{}{}
		w.readLine()
	})
	config := testConfig(t)
	config.Upstream = upstreamAt("tcp", mute)
	config.Upstream.ConnectTimeout = time.Hour
	config.LoginTimeout = time.Second
	e := start(t, config)
	w := newWire(t, dialTCP(t, e, 1))
	w.expect(`\* BYE \[UNAVAILABLE\] Mail server cannot be reached`)
	w.expectEnd()
	<-accepted

	config.LoginTimeout = time.Hour
	e = start(t, config)
	w = newWire(t, dialTCP(t, e, 1))
	<-accepted
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	w.expect(`\* BYE \[UNAVAILABLE\] Server is shutting down`)
	w.expectEnd()
}
