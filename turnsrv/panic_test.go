package turnsrv

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// sharedLog is a log that several goroutines write.
type sharedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *sharedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// count returns how often the log has text.
func (l *sharedLog) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// waitUntil fails the test if done does not become true in time.
func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("what was waited for did not happen")
		}
	}
}

// TestPanicEndsOneClient makes the server panic while it handles a request. The client's allocation ends; the others go on.
func TestPanicEndsOneClient(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			config := testConfig(t)
			if config.Workers == 0 {
				config.Workers = 1 // both clients have the same
			}
			var log sharedLog
			config.Logger = slog.New(slog.NewTextHandler(&log, nil))
			var unlucky atomic.Uint32 // port of the client for which the server panics
			config.OnEvent = func(e event.Event) {
				if e.Kind == event.AllocationRefreshed && uint32(e.Tuple.Client.Port()) == unlucky.Load() {
					panic("a mistake in the server")
				}
			}
			server := startServer(t, config)
			to := server.udp
			if network == "tcp" {
				to = server.tcp
			}
			first, second := dial(t, network, to), dial(t, network, to)
			first.allocate()
			second.allocate()
			unlucky.Store(uint32(udp.AddrPortOf(first.conn.LocalAddr()).Port()))
			var refresh stun.Builder
			refresh.Start(stun.MethodRefresh, stun.ClassRequest, stun.TransactionID{99})
			first.sign(&refresh)
			first.write(refresh.Bytes())
			second.want(second.request(stun.MethodRefresh), 0)
			waitUntil(t, func() bool { return server.Allocations() == 1 })
			unlucky.Store(0)
			if network == "udp" { // over TCP, the connection may have ended too
				first.want(first.request(stun.MethodRefresh), 437)
				first.allocate()
			}
			second.want(second.request(stun.MethodRefresh), 0)
			if got := server.Counters().Workers.Panics; got != 1 || log.count("a mistake in the server") == 0 {
				t.Errorf("%d panics are counted, and %d logged; want one", got, log.count("a mistake in the server"))
			}
		})
	}
}

// TestPanicLeavesTheJanitor makes the server panic when it ends an allocation that has expired. It ends the next one too.
func TestPanicLeavesTheJanitor(t *testing.T) {
	config := testConfig(t)
	if config.Workers == 0 {
		config.Workers = 1
	}
	config.Lifetime, config.MaxLifetime = time.Second, 10*time.Second
	var panicked atomic.Bool
	config.OnEvent = func(e event.Event) {
		if e.Kind == event.AllocationEnded && e.End == event.EndedExpired && panicked.CompareAndSwap(false, true) {
			panic("a mistake in the server")
		}
	}
	server := startServer(t, config)
	dial(t, "udp", server.udp).allocate()
	dial(t, "udp", server.udp).allocate(turntest.Lifetime(3))
	waitUntil(t, func() bool { return panicked.Load() && server.Allocations() == 0 })
}
