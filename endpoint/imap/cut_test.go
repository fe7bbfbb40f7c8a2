package imap

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/backend"
	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
	"github.com/mailturn/mailturn/endpoint/imap/pipe"
)

// A slowlyClosed server's connections take 5 seconds to close, as with TLS that cannot send its alert.
type slowlyClosed struct{ scriptBackend }

func (b slowlyClosed) Dial(ctx context.Context, from origin.Origin) (backend.Conn, error) {
	conn, err := b.scriptBackend.Dial(ctx, from)
	return slowlyClosedConn{conn}, err
}

type slowlyClosedConn struct{ backend.Conn }

func (c slowlyClosedConn) Close() error {
	time.Sleep(5 * time.Second)
	return c.Conn.Close()
}

// TestShutdownClosesTogether checks that at the end of Shutdown's time, no session waits for another one to be closed.
func TestShutdownClosesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startPipes(t, testConfig(t))
		e.present.backend.Close()
		e.present.backend = slowlyClosed{scriptBackend{t, func(w *wire) {
			fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
			io.Copy(io.Discard, w.r)
		}}}
		for range 10 {
			w := dialPipe(t, e, loopback, false)
			w.expect(`\* PREAUTH`)
			w.send("a NOOP\r\n")
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		e.Shutdown(ctx)
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
	})
}

// TestJoinAfterCut checks that the connection to a backend is closed that comes after the session has been closed, at the end of
// Shutdown's time.
func TestJoinAfterCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startPipes(t, testConfig(t))
		ours, theirs := net.Pipe()
		defer theirs.Close()
		s := &session{endpoint: e, arrival: arrival{conn: patient.New(ours)}, woken: make(chan struct{}, 1)}
		s.client = newClientConn(s.conn)
		e.cancel()
		s.cut()
		backend, server := pipe.New(&net.TCPAddr{})
		ended := false
		go func() {
			io.Copy(io.Discard, server)
			ended = true
		}()
		s.join(backend)
		synctest.Wait()
		if !ended {
			t.Error("the connection to the backend is open")
			server.Close()
		}
	})
}

// TestShutdownBeforeHeader checks that a connection that waits for its PROXY header is closed at the end of Shutdown's time.
func TestShutdownBeforeHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t)
		config.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		e := startPipes(t, config)
		w := dialPipe(t, e, netip.MustParseAddrPort("10.0.0.5:4711"), false)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		e.Shutdown(ctx)
		if took := time.Since(begin); took != time.Second {
			t.Errorf("Shutdown took %v, want 1s", took)
		}
		w.expectEnd()
	})
}
