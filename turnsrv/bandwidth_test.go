package turnsrv

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

func TestBandwidthBucket(t *testing.T) {
	const bps = 8_000_000 // a megabyte a second
	var b bandwidth
	passed := func(now time.Duration, packets int) (n int) {
		for range packets {
			if b.take(1000, bps, now) {
				n++
			}
		}
		return n
	}
	if got := passed(0, 5000); got != 1000 {
		t.Errorf("%d packets at once, want 1000", got)
	}
	if got := passed(100*time.Millisecond, 5000); got != 100 {
		t.Errorf("%d packets a tenth of a second later, want 100", got)
	}
	b.give(1000, bps)
	if got := passed(100*time.Millisecond, 5); got != 1 {
		t.Errorf("%d packets after one was given back, want 1", got)
	}
	if got := passed(time.Hour, 5000); got != 1000 {
		t.Errorf("%d packets at once after an hour, want 1000", got)
	}
	// A limit below one datagram a second lets one through all the same, and is forgotten when it is raised.
	var slow bandwidth
	if !slow.take(65507, 1000, 0) || slow.take(100, 1000, 0) {
		t.Error("want one datagram of the largest size and no more")
	}
	if slow.take(1000, bps, time.Second) || !slow.take(1000, bps, time.Second+time.Millisecond) {
		t.Error("want an empty bucket when the limit is raised, into which the new rate flows")
	}
}

// Many goroutines take together what one may take.
func TestBandwidthIsSharedExactly(t *testing.T) {
	var b bandwidth
	var mu sync.Mutex
	var all sync.WaitGroup
	passed := 0
	for range 8 {
		all.Go(func() {
			n := 0
			for range 1000 {
				if b.take(1000, 8_000_000, 0) {
					n++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			passed += n
		})
	}
	all.Wait()
	if passed != 1000 {
		t.Errorf("%d packets passed, want 1000", passed)
	}
}

func TestBandwidthOfAllocationsAndServer(t *testing.T) {
	const packet = 1000
	size := string(make([]byte, packet))
	// received empties what has come to a socket.
	received := func(c *memConn) (n int) {
		synctest.Wait()
		for {
			select {
			case <-c.in:
				n++
			default:
				return n
			}
		}
	}
	for _, tt := range []struct {
		name  string
		quota Quotas
		want  [2]int // packets of the first and the second allocation, which begins when the first has had its share
	}{
		{"none", Quotas{}, [2]int{200, 200}},
		{"each", Quotas{MaxBPS: 100 * packet * 8}, [2]int{100, 100}},
		{"total", Quotas{MaxTotalBPS: 150 * packet * 8}, [2]int{150, 0}},
		{"both", Quotas{MaxBPS: 100 * packet * 8, MaxTotalBPS: 150 * packet * 8}, [2]int{100, 50}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(c *Config) { c.Quotas = tt.quota }, func(b *bubble) {
				dropped := uint64(0)
				for _, direction := range []string{"to peer", "to client"} {
					for i, want := range tt.want {
						socket, peer := b.listen(), b.listen()
						c := newRawClient(b, connected{socket, b.socket.addr}, false)
						relayed := c.allocate()
						c.want(c.request(stun.MethodChannelBind, channel(0x4000), peerAddr(peer.addr)), 0)
						received(socket)
						far := peer
						if direction == "to client" {
							far = socket
						}
						got := 0
						for range 10 { // fewer at a time than a socket of the test's network holds
							for range 20 {
								if direction == "to client" {
									_, _ = peer.WriteToUDPAddrPort([]byte(size), relayed)
								} else {
									c.write(channelData(0x4000, size))
								}
							}
							got += received(far)
						}
						if got != want {
							t.Errorf("%s, allocation %d: %d packets passed, want %d", direction, i, got, want)
						}
						dropped += uint64(200 - got)
						if got := b.server.Counters().Dropped[DropBandwidth]; got != dropped {
							t.Errorf("%s, allocation %d: %d packets counted as dropped, want %d", direction, i, got, dropped)
						}
					}
				}
			})
		})
	}
}
