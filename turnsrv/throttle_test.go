package turnsrv

import (
	"testing"
	"testing/synctest"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

func TestBandwidthOfAllocationsAndServer(t *testing.T) {
	const packet = 1000 + session.HeadersIPv4
	size := string(make([]byte, 1000))
	// received empties a socket and returns the number of its packets.
	received := func(c *turntest.MemConn) (n int) {
		synctest.Wait()
		for {
			select {
			case <-c.In:
				n++
			default:
				return n
			}
		}
	}
	for _, tt := range []struct {
		name  string
		quota limit.Quotas
		want  [2]int // packets of the first and the second allocation, which begins when the first has had its share
	}{
		{"none", limit.Quotas{}, [2]int{200, 200}},
		{"each", limit.Quotas{MaxBPS: 100 * packet * 8}, [2]int{100, 100}},
		{"total", limit.Quotas{MaxTotalBPS: 150 * packet * 8}, [2]int{150, 0}},
		{"both", limit.Quotas{MaxBPS: 100 * packet * 8, MaxTotalBPS: 150 * packet * 8}, [2]int{100, 50}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(c *Config) { c.Quotas = tt.quota }, func(b *bubble) {
				dropped := uint64(0)
				for _, direction := range []string{"to peer", "to client"} {
					for i, want := range tt.want {
						socket, peer := b.listen(), b.listen()
						c := newRawClient(b, turntest.Connected{MemConn: socket, To: b.socket.Addr}, false)
						relayed := c.allocate()
						c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr)), 0)
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
									c.write(turntest.ChannelData(0x4000, size))
								}
							}
							got += received(far)
						}
						if got != want {
							t.Errorf("%s, allocation %d: %d packets passed, want %d", direction, i, got, want)
						}
						dropped += uint64(200 - got)
						if got := b.server.Counters().Dropped[event.DropBandwidth]; got != dropped {
							t.Errorf("%s, allocation %d: %d packets counted as dropped, want %d", direction, i, got, dropped)
						}
					}
				}
			})
		})
	}
}
