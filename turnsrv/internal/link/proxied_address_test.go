package link

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestProxiedAddressCounts runs the server behind a proxy: the client address that the proxy sends counts. It is known only
// after the handshake.
func TestProxiedAddressCounts(t *testing.T) {
	l := NewStreams(1000, nil, new(count.Counters))
	var streams []*stream
	for i := range 3 {
		near, far := net.Pipe()
		defer near.Close()
		conn := &headedConn{turntest.AddressedConn{Conn: far, Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}},
			net.IPv4(198, 51, byte(i/2), 1)}
		s := newStream(l, conn)
		l.places.take(s, s.tuple.Client.Addr())
		if err := s.handshake(); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	l.places.leave(streams[0]) // one in each network
	l.places.take(streams[0], netip.MustParseAddr("198.51.1.9"))
	if s, _ := l.places.unallocated.First(); s != streams[2] {
		t.Errorf("%v is evicted first, want the older one of 198.51.1.0/24", s.tuple.Client)
	}
}

// headedConn changes its remote address during the handshake, as a connection from a proxy does.
type headedConn struct {
	turntest.AddressedConn
	header net.IP
}

func (c *headedConn) HandshakeContext(context.Context) error {
	c.Addr = &net.TCPAddr{IP: c.header, Port: 4000}
	return nil
}

func (*headedConn) Encrypted() bool { return false }
