package turnsrv

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// wildcards are sockets on all addresses, and what clients may call them by.
var wildcards = []struct {
	network, bind string
	addresses     []string
}{
	{"udp4", "0.0.0.0:0", []string{"127.0.0.1", "127.0.0.2"}},
	{"udp6", "[::]:0", []string{"::1"}},
	{"udp", ":0", []string{"127.0.0.1", "127.0.0.2", "127.7.7.7", "::1"}},
}

// TestT35AnswersFromTheAddressAsked wants every kind of packet to come from the address that the client sends to. The
// client's socket is connected: the system throws away what comes from elsewhere.
func TestT35AnswersFromTheAddressAsked(t *testing.T) {
	for _, wildcard := range wildcards {
		t.Run(wildcard.network, func(t *testing.T) {
			config := testConfig(t)
			var mu sync.Mutex
			var tuples []FiveTuple
			config.OnEvent = func(e Event) {
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
			peer := addrPortOf(echo(t))
			for _, address := range wildcard.addresses {
				to := netip.AddrPortFrom(netip.MustParseAddr(address), addrPortOf(conn.LocalAddr()).Port())
				c := dial(t, "udp", to)
				c.allocate()
				c.want(c.request(stun.MethodChannelBind, channel(0x4000), peerAddr(peer)), 0)
				c.write(channelData(0x4000, "there and back"))
				if number, data, err := stun.ParseChannelData(c.read()); err != nil || number != 0x4000 || string(data) != "there and back" {
					t.Errorf("%v: channel %#x carries %q, %v", to, number, data, err)
				}
				mu.Lock()
				want := FiveTuple{Client: addrPortOf(c.conn.LocalAddr()), Server: to, Transport: UDP}
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
	port := addrPortOf(conn.LocalAddr()).Port()
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

func TestT35PacketsCostNoAllocation(t *testing.T) {
	bound := wildcards[0]
	bound.bind, bound.addresses = "127.0.0.1:0", bound.addresses[:1]
	for _, wildcard := range append(wildcards, bound) {
		conn, err := net.ListenPacket(wildcard.network, wildcard.bind)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		socket, err := newPacketSocket(conn)
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range wildcard.addresses {
			to := netip.AddrPortFrom(netip.MustParseAddr(address), addrPortOf(conn.LocalAddr()).Port())
			client, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close() })
			buf := make([]byte, 100)
			allocs := testing.AllocsPerRun(50, func() {
				if _, err := client.Write(buf[:10]); err != nil {
					t.Fatal(err)
				}
				_, from, local, err := socket.readPacket(buf)
				if want := wildcard.bind != bound.bind; err != nil || local.IsValid() != want || want && local != to.Addr() {
					t.Fatalf("to %v: local address %v, %v", to, local, err)
				}
				if err := socket.writePacket(buf[:20], from, local); err != nil {
					t.Fatal(err)
				}
				if n, err := client.Read(buf); err != nil || n != 20 {
					t.Fatalf("%d bytes, %v", n, err)
				}
			})
			if allocs != 0 {
				t.Errorf("%s at %s: %v allocations for a packet and its answer, want none", address, wildcard.network, allocs)
			}
		}
	}
}
