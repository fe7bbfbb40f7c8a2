package turnsrv

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestNoContendedLock relays packets on three workers, between clients of all of them and to other peers. The mutex profile must
// not show that they wait for each other: there must be no contended lock on the path of a packet.
func TestNoContendedLock(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there are no workers on this system")
	}
	const callers, packets, window = 12, 2000, 16
	const few = 10 // waits for a lock that requests take, such as those for an allocation
	config := testConfig(t)
	config.Workers = 3
	server := startServer(t, config)
	var clients []*rawClient
	for range callers / 2 {
		near, far := call(dial(t, "udp", server.udp), dial(t, "tcp", server.tcp))
		clients = append(clients, near.rawClient, far.rawClient)
	}
	before := contentions()
	previous := runtime.SetMutexProfileFraction(1)
	defer runtime.SetMutexProfileFraction(previous)
	var sending sync.WaitGroup
	for i, c := range clients {
		_ = c.conn.SetDeadline(time.Now().Add(time.Minute))
		credit := make(chan struct{}, window) // how many packets of the other party may still come
		sending.Go(func() {
			data := turntest.ChannelData(0x4000+uint16(i%2), strings.Repeat("x", 160))
			for range packets {
				select {
				case credit <- struct{}{}:
				case <-time.After(10 * time.Millisecond): // the packet was lost
				}
				if _, err := c.conn.Write(data); err != nil {
					t.Error(err)
					return
				}
			}
			_ = c.conn.SetReadDeadline(time.Now().Add(time.Second))
		})
		sending.Go(func() {
			buf := make([]byte, 4096)
			for {
				if _, err := c.conn.Read(buf); err != nil {
					return
				}
				select {
				case <-credit:
				default:
				}
			}
		})
	}
	sending.Wait()
	relayed := server.Counters().Workers.Packets
	if relayed < callers*packets/2 {
		t.Errorf("the workers received %d packets, want at least %d", relayed, callers*packets/2)
	}
	for where, n := range contentions() {
		if n -= before[where]; n > few {
			t.Errorf("%d waits for a lock in %d packets: %s", n, relayed, where)
		}
	}
}

// contentions returns how often goroutines have waited for a lock of this package and those under it, by the place that had it.
func contentions() map[string]int64 {
	records := make([]runtime.BlockProfileRecord, 10000)
	n, _ := runtime.MutexProfile(records)
	counts := make(map[string]int64)
	for _, r := range records[:n] {
		var stack []string
		for frames := runtime.CallersFrames(r.Stack()); ; {
			frame, more := frames.Next()
			stack = append(stack, frame.Function)
			if !more {
				break
			}
		}
		if slices.ContainsFunc(stack, ofServer) {
			counts[strings.Join(stack, " < ")] += r.Count
		}
	}
	return counts
}

func ofServer(function string) bool {
	const root = "github.com/mailturn/mailturn/turnsrv"
	return strings.HasPrefix(function, root) && !strings.Contains(function, "contention_test") &&
		!strings.Contains(function, "TestNoContendedLock")
}
