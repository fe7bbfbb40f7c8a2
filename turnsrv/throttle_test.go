package turnsrv

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

func TestBandwidthOfAllocationsAndServer(t *testing.T) {
	const packet = 1000 + headersIPv4
	size := string(make([]byte, 1000))
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

// TestTotalIsShared has one client send ten times as much as all may relay together, beside calls that are each within their share.
func TestTotalIsShared(t *testing.T) {
	const calls, voice, flood, payload = 20, 50, 20000, 160 // voice and flood are packets a second
	bits := int64(cost(payload, loopback)) * 8
	server := &shared{start: time.Unix(0, 0)}
	for d := range server.throttles {
		server.throttles[d].active = &server.active
	}
	server.limits.Store(&Quotas{MaxTotalBPS: 2 * calls * voice * bits})
	server.active.Store(calls + 1)
	f := &front{shared: server}
	allocate := func() *allocation { return &allocation{front: f, account: new(holding)} }
	flooder := allocate()
	var callers [calls]*allocation
	for i := range callers {
		callers[i] = allocate()
	}
	lost, passed := 0, 0
	const seconds = 5
	for tick := range seconds * flood {
		now := server.start.Add(time.Minute + time.Duration(tick)*time.Second/flood)
		if flooder.mayRelay(toPeer, payload, loopback, now) {
			passed++
		}
		if tick%(flood/voice) == 0 {
			for _, caller := range callers {
				if !caller.mayRelay(toPeer, payload, loopback, now) {
					lost++
				}
			}
		}
	}
	if lost > 0 {
		t.Errorf("the calls lose %d of %d packets beside one client that takes all it can", lost, calls*voice*seconds)
	}
	// The flooder gets what the calls leave, and what the buckets held at the beginning.
	if most := (seconds*calls*voice + 2*calls*voice) * 11 / 10; passed > most || passed < seconds*calls*voice/2 {
		t.Errorf("the client that takes all it can relays %d packets, want at most %d", passed, most)
	}
}

// TestPacketsHaveABudget limits packets by themselves, and has small ones cost their headers.
func TestPacketsHaveABudget(t *testing.T) {
	now := time.Unix(100, 0)
	passed := func(quotas Quotas, allocations, payload int) (n int) {
		server := &shared{start: time.Unix(0, 0)}
		server.limits.Store(&quotas)
		account := new(holding)
		for range allocations {
			a := &allocation{front: &front{shared: server}, account: account}
			for range 10000 {
				if a.mayRelay(toClient, payload, loopback, now) {
					n++
				}
			}
		}
		return n
	}
	for _, tt := range []struct {
		name                 string
		quotas               Quotas
		allocations, payload int
		want                 int
	}{
		{"a megabit of single bytes", Quotas{MaxBPS: 1_000_000}, 1, 1, 1_000_000 / 8 / 29},
		{"packets of an allocation", Quotas{MaxPPS: 1000}, 1, 0, 1000},
		{"packets of a user", Quotas{MaxPPS: 1000, MaxPPSPerUser: 2500}, 5, 0, 2500},
		{"no limit", Quotas{}, 1, 0, 10000},
	} {
		if got := passed(tt.quotas, tt.allocations, tt.payload); got != tt.want {
			t.Errorf("%s: %d packets pass at once, want %d", tt.name, got, tt.want)
		}
	}
}
