package turnsrv

import (
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// allocationsVar, if set in the environment, is the number of allocations that TestShortAllocations makes.
const allocationsVar = "TURNSRV_ALLOCATIONS"

// TestShortAllocations makes many allocations that bind a channel and end. Afterwards, the process has no more descriptors,
// goroutines and memory than after the first tenth, and the last allocations have cost no more than the first.
func TestShortAllocations(t *testing.T) {
	total := 10_000
	if testWorkers(t) != 0 {
		total = 2000 // beside the same test with as many workers as there are processors
	}
	if value := os.Getenv(allocationsVar); value != "" {
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatal(err)
		}
		total = n
	}
	config := testConfig(t)
	config.UnauthenticatedRate = -1 // all clients have one address
	server := startServer(t, config)
	peer := udp.AddrPortOf(echo(t))
	const tenths, clients, cyclesOfAPort = 10, 16, 25
	cycles := total / tenths / clients // of each client
	run := func() (cost time.Duration) {
		before := cpuTime(t)
		var living sync.WaitGroup
		for range clients {
			living.Go(func() {
				for left := cycles; left > 0; left -= cyclesOfAPort {
					conn, err := net.Dial("udp4", server.udp.String())
					if err != nil {
						t.Error(err)
						return
					}
					c := &rawClient{t: t, conn: conn, realm: turntest.TestRealm}
					c.use(turntest.TestCredential())
					for range min(left, cyclesOfAPort) {
						c.allocate()
						c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer)), 0)
						c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
					}
					_ = conn.Close()
				}
			})
		}
		living.Wait()
		return (cpuTime(t) - before) / time.Duration(cycles*clients)
	}
	costs := []time.Duration{run()}
	before := holdings(t)
	for len(costs) < tenths {
		costs = append(costs, run())
	}
	after := holdings(t)
	first, last := slices.Max(costs[:3]), slices.Min(costs[tenths-3:]) // other processes make the cost differ
	t.Logf("CPU time of an allocation: %v; held: %+v, %+v", costs, before, after)
	// Workers change between threads, each with a goroutine and a descriptor.
	threads := DefaultWorkers()
	if after.descriptors > before.descriptors+threads || after.goroutines > before.goroutines+threads {
		t.Errorf("%+v after the first allocations, %+v in the end", before, after)
	}
	if grown := int64(after.heap) - int64(before.heap); grown > 1<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if last > first*5/4 {
		t.Errorf("an allocation took %v of CPU time in the end, %v in the beginning", last, first)
	}
	if got := server.Counters().AllocationsMade; got != uint64(tenths*clients*cycles) {
		t.Errorf("%d allocations were made, want %d", got, tenths*clients*cycles)
	}
}

// held is what the process has.
type held struct {
	descriptors, goroutines int
	heap                    uint64 // bytes
}

func holdings(t *testing.T) (h held) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.GC() // what sync.Pools hold survives one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return held{len(entries), runtime.NumGoroutine(), m.HeapAlloc}
}
