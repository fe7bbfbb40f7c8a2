package turnsrv

import (
	"fmt"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// BenchmarkHandOver hands over a server with many idle allocations. "interrupted" is how long nothing is served.
func BenchmarkHandOver(b *testing.B) {
	for _, allocations := range []int{100, 3000} {
		b.Run(fmt.Sprint(allocations), func(b *testing.B) {
			config := func() Config {
				c := testConfig(b)
				c.Workers, c.UnauthenticatedRate = 2, -1 // all clients have one address
				return c
			}
			s := newSuccession(b, 2, config())
			far := udp.AddrPortOf(echo(b))
			for range allocations {
				c := dial(b, "udp", s.udp)
				c.allocate()
				c.want(c.request(stun.MethodChannelBind, turntest.PeerAddr(far), turntest.Channel(0x4000)), 0)
			}
			var interrupted time.Duration
			for b.Loop() {
				interrupted += s.handOver(config())
			}
			b.ReportMetric(float64(interrupted.Microseconds())/1000/float64(b.N), "ms-interrupted")
		})
	}
}
