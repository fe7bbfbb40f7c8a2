package turnsrv

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/mailturn/mailturn/turnsrv/internal/link"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestFloodDisplacesItsOwnConnections opens connections from one network without pause, while other clients take their time.
func TestFloodDisplacesItsOwnConnections(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		connect := func(from netip.Addr) *rawClient {
			near, far := net.Pipe()
			b.stream.Conns <- turntest.AddressedConn{Conn: far, Addr: &net.TCPAddr{IP: from.AsSlice(), Port: 4000}}
			return newRawClient(b, near, true)
		}
		stranger := func(n int) {
			for i := range n {
				connect(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
			}
			synctest.Wait()
		}
		stranger(link.MaxUnallocated)
		var honest []*rawClient
		for i := range 100 {
			honest = append(honest, connect(netip.AddrFrom4([4]byte{198, 51, byte(i), 1})))
		}
		stranger(3 * link.MaxUnallocated)
		for i, c := range honest {
			c.allocate()
			if i%2 == 0 { // no longer has an allocation
				c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
			}
		}
		stranger(3 * link.MaxUnallocated)
		for _, c := range honest {
			c.request(stun.MethodBinding)
		}
		// Within the flooding network, the newest connection has the most time.
		last := connect(netip.MustParseAddr("192.0.2.77"))
		stranger(link.MaxUnallocated / 2)
		last.allocate()
		if got := b.server.Counters(); got.Streams != 50+link.MaxUnallocated {
			t.Errorf("%d connections, want %d", got.Streams, 50+link.MaxUnallocated)
		}
	})
}
