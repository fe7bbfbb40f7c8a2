package turnsrv

import (
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestPanicEndsOneClient makes the server panic while it handles a request. The client's allocation must end, and the others must
// continue.
func TestPanicEndsOneClient(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there are no workers on this system, and a panic ends the process")
	}
	config := testConfig(t)
	config.Workers = 1
	var unlucky atomic.Uint32 // port of the client for which the server panics
	config.OnEvent = func(e event.Event) {
		if e.Kind == event.AllocationRefreshed && uint32(e.Tuple.Client.Port()) == unlucky.Load() {
			panic("a mistake in the server")
		}
	}
	server := startServer(t, config)
	first, second := dial(t, "udp", server.udp), dial(t, "udp", server.udp)
	first.allocate()
	second.allocate()
	unlucky.Store(uint32(udp.AddrPortOf(first.conn.LocalAddr()).Port()))
	var refresh stun.Builder
	refresh.Start(stun.MethodRefresh, stun.ClassRequest, stun.TransactionID{99})
	first.sign(&refresh)
	first.write(refresh.Bytes())
	second.want(second.request(stun.MethodRefresh), 0)
	unlucky.Store(0)
	first.want(first.request(stun.MethodRefresh), 437)
	first.allocate()
	if got := server.Counters(); got.Allocations != 2 || got.Workers.Panics != 1 {
		t.Errorf("%d allocations and %d panics, want 2 and 1", got.Allocations, got.Workers.Panics)
	}
}
