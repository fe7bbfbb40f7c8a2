package turnsrv

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestT35AnswersFromTheAddressAsked checks that every kind of packet comes from the address that the client sends to. The
// client's socket is connected, so the system discards packets from other addresses.
func TestT35AnswersFromTheAddressAsked(t *testing.T) {
	for _, wildcard := range wildcards {
		t.Run(wildcard.network, func(t *testing.T) {
			config := testConfig(t)
			var mu sync.Mutex
			var tuples []event.FiveTuple
			config.OnEvent = func(e event.Event) {
				mu.Lock()
				defer mu.Unlock()
				tuples = append(tuples, e.Tuple)
			}
			server, err := New(config)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.ListenPacket(wildcard.network, wildcard.bind)
			if err != nil {
				t.Fatal(err)
			}
			if onPlainPion() {
				plain := plainPion(t, config, listenLoopback, []net.PacketConn{conn}, nil)
				t.Cleanup(func() { _ = plain.Close() })
			} else {
				var serving sync.WaitGroup
				serving.Go(func() { _ = server.ServePacket(conn) })
				t.Cleanup(func() {
					_ = server.Close()
					serving.Wait()
				})
			}
			peer := udp.AddrPortOf(echo(t))
			for _, address := range wildcard.addresses {
				to := netip.AddrPortFrom(netip.MustParseAddr(address), udp.AddrPortOf(conn.LocalAddr()).Port())
				c := dial(t, "udp", to)
				c.allocate()
				c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer)), 0)
				c.write(turntest.ChannelData(0x4000, "there and back"))
				if number, data, err := stun.ParseChannelData(c.read()); err != nil || number != 0x4000 || string(data) != "there and back" {
					t.Errorf("%v: channel %#x carries %q, %v", to, number, data, err)
				}
				mu.Lock()
				want := event.FiveTuple{Client: udp.AddrPortOf(c.conn.LocalAddr()), Server: to, Transport: event.UDP}
				if len(tuples) != 1 || tuples[0] != want {
					t.Errorf("the 5-tuple is %+v, want %+v", tuples, want)
				}
				tuples = nil
				mu.Unlock()
			}
		})
	}
}

// One client may have an allocation with each address of the server: those are two 5-tuples, RFC 8656 section 5.
func TestT35AddressesAreApart(t *testing.T) {
	server, err := New(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.ServePacket(conn) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	port := udp.AddrPortOf(conn.LocalAddr()).Port()
	first := dial(t, "udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	relayed := first.allocate()
	from := first.conn.LocalAddr().(*net.UDPAddr)
	_ = first.conn.Close()
	again, err := net.DialUDP("udp4", from, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: int(port)})
	if err != nil {
		t.Fatal(err)
	}
	second := newRawClient(t, again, false)
	if got := second.allocate(); got == relayed || server.Allocations() != 2 {
		t.Errorf("relayed %v and %v, %d allocations, want two", relayed, got, server.Allocations())
	}
}

// wildcards are sockets on all addresses, and what clients may call them by.
var wildcards = []struct {
	network, bind string
	addresses     []string
}{
	{"udp4", "0.0.0.0:0", []string{"127.0.0.1", "127.0.0.2"}},
	{"udp6", "[::]:0", []string{"::1"}},
	{"udp", ":0", []string{"127.0.0.1", "127.0.0.2", "127.7.7.7", "::1"}},
}
