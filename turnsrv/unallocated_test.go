package turnsrv

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestStrangerDisplacesHisOwnConnections has one network open connections without end, and other clients wait for their turn.
func TestStrangerDisplacesHisOwnConnections(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		connect := func(from netip.Addr) *rawClient {
			near, far := net.Pipe()
			b.stream.conns <- addressedConn{far, &net.TCPAddr{IP: from.AsSlice(), Port: 4000}}
			return newRawClient(b, near, true)
		}
		stranger := func(n int) {
			for i := range n {
				connect(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
			}
			synctest.Wait()
		}
		stranger(maxUnallocated)
		var honest []*rawClient
		for i := range 100 {
			honest = append(honest, connect(netip.AddrFrom4([4]byte{198, 51, byte(i), 1})))
		}
		stranger(3 * maxUnallocated)
		for i, c := range honest {
			c.allocate()
			if i%2 == 0 { // counts as one without an allocation again
				c.want(c.request(stun.MethodRefresh, lifetime(0)), 0)
			}
		}
		stranger(3 * maxUnallocated)
		for _, c := range honest {
			c.request(stun.MethodBinding)
		}
		// In his own network, whoever came last has the most time.
		last := connect(netip.MustParseAddr("192.0.2.77"))
		stranger(maxUnallocated / 2)
		last.allocate()
		if got := b.server.Counters(); got.Streams != 50+maxUnallocated {
			t.Errorf("%d connections, want %d", got.Streams, 50+maxUnallocated)
		}
	})
}

// TestDisplacedByTheAddressOfTheHeader has a proxy in front of the server: what counts is the address that it names, which is known
// after the handshake only.
func TestDisplacedByTheAddressOfTheHeader(t *testing.T) {
	l := newStreamLink(DefaultMaxStreams, new(counters))
	var streams []*stream
	for i := range 3 {
		near, far := net.Pipe()
		defer near.Close()
		conn := &headedConn{addressedConn{far, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}}, net.IPv4(198, 51, byte(i/2), 1)}
		s := newStream(l, conn)
		l.streams[s] = struct{}{}
		l.unallocated.Add(s, s.tuple.Client.Addr())
		if err := s.handshake(); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	l.forgetLocked(streams[0]) // one in each network
	l.unallocated.Add(streams[0], netip.MustParseAddr("198.51.1.9"))
	if s, _ := l.unallocated.First(); s != streams[2] {
		t.Errorf("%v has to go, want the older one of 198.51.1.0/24", s.tuple.Client)
	}
}

// headedConn tells of another address after its handshake, as a connection from a proxy does.
type headedConn struct {
	addressedConn
	header net.IP
}

func (c *headedConn) HandshakeContext(context.Context) error {
	c.addr = &net.TCPAddr{IP: c.header, Port: 4000}
	return nil
}

func (*headedConn) Encrypted() bool { return false }
