package turnsrv

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

func family(f stun.Family) turntest.Set {
	return turntest.Attr(stun.AttrRequestedAddressFamily, byte(f), 0, 0, 0)
}

// familiesConfig is testConfig with the given relay addresses and loopback peers of both families.
func familiesConfig(t testing.TB, addresses ...relay.Address) Config {
	t.Helper()
	config := testConfig(t)
	config.Relay = turntest.TestRelay(t, relay.Config{
		Addresses: addresses,
		Peers: peer.New(peer.Rules{Allow: []netip.Prefix{
			netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
		}}),
	})
	return config
}

// TestT23Families requests every family, from clients of either family, on relays with one or both families.
func TestT23Families(t *testing.T) {
	var (
		only4 = []relay.Address{turntest.Address4}
		only6 = []relay.Address{turntest.Address6}
		both  = []relay.Address{turntest.Address4, turntest.Address6}
	)
	const none = 440
	tests := []struct {
		name   string
		relay  []relay.Address
		policy relay.DefaultFamily
		client netip.Addr
		// The result of a request for no family, IPv4 and IPv6: a family or 440.
		unnamed, v4, v6 int
	}{
		{"IPv4 client, IPv4 relay", only4, relay.PreferIPv4, turntest.Loopback, 4, 4, none},
		{"IPv4 client, IPv6 relay", only6, relay.PreferIPv4, turntest.Loopback, 6, none, 6},
		{"IPv4 client, both", both, relay.PreferIPv4, turntest.Loopback, 4, 4, 6},
		{"IPv6 client, IPv4 relay", only4, relay.PreferIPv4, turntest.Loopback6, 4, 4, none},
		{"IPv6 client, IPv6 relay", only6, relay.PreferIPv4, turntest.Loopback6, 6, none, 6},
		{"IPv6 client, both", both, relay.PreferIPv4, turntest.Loopback6, 4, 4, 6},
		{"IPv6 client, IPv6 relay, RFC 8656 to the letter", only6, relay.OnlyIPv4, turntest.Loopback6, none, none, 6},
		{"IPv6 client, both, RFC 8656 to the letter", both, relay.OnlyIPv4, turntest.Loopback6, 4, 4, 6},
		{"IPv4 client, both, its own family", both, relay.ClientFamily, turntest.Loopback, 4, 4, 6},
		{"IPv4 client, IPv6 relay, its own family", only6, relay.ClientFamily, turntest.Loopback, 6, none, 6},
		{"IPv6 client, both, its own family", both, relay.ClientFamily, turntest.Loopback6, 6, 4, 6},
		{"IPv6 client, IPv4 relay, its own family", only4, relay.ClientFamily, turntest.Loopback6, 4, 4, none},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := familiesConfig(t, test.relay...)
			config.DefaultFamily = test.policy
			server := startServerOn(t, config, test.client)
			for _, request := range []struct {
				sets []turntest.Set
				want int
			}{
				{nil, test.unnamed}, {[]turntest.Set{family(stun.IPv4)}, test.v4}, {[]turntest.Set{family(stun.IPv6)}, test.v6},
			} {
				c := dial(t, "udp", server.udp)
				a := c.request(stun.MethodAllocate, append([]turntest.Set{turntest.TransportUDP}, request.sets...)...)
				if request.want == none {
					c.want(a, none)
					continue
				}
				if c.want(a, 0).code != 0 {
					continue
				}
				if relayed := c.relayed(a); relayed.Addr().Is4() != (request.want == 4) {
					t.Errorf("relayed address %v, want IPv%d", relayed, request.want)
				}
				mapped, err := stun.ParseXORAddress(a.attrs[stun.AttrXORMappedAddress], a.TransactionID)
				if want := udp.AddrPortOf(c.conn.LocalAddr()); err != nil || mapped != want {
					t.Errorf("mapped address %v, %v, want %v", mapped, err, want)
				}
			}
		})
	}
}

// TestFamiliesBothWays relays between clients and peers of all families, over every transport.
func TestFamiliesBothWays(t *testing.T) {
	for _, addr := range []netip.Addr{turntest.Loopback, turntest.Loopback6} {
		server := startServerOn(t, familiesConfig(t, turntest.Address4, turntest.Address6), addr)
		for name, to := range map[string]netip.AddrPort{"udp": server.udp, "tcp": server.tcp} {
			for _, peer := range []netip.AddrPort{udp.AddrPortOf(echo(t)), udp.AddrPortOf(echoOn(t, turntest.Loopback6))} {
				t.Run(addr.String()+" "+name+" to "+peer.Addr().String(), func(t *testing.T) {
					c := dial(t, name, to)
					named, other := stun.IPv4, stun.IPv6
					if peer.Addr().Is6() {
						named, other = other, named
					}
					c.allocate(family(named))
					c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer)), 0)
					c.want(c.request(stun.MethodRefresh, family(named)), 0)
					c.want(c.request(stun.MethodRefresh, family(other)), 443)
					c.write(turntest.ChannelData(0x4000, "0123456789ab"))
					if got, want := c.read(), turntest.ChannelData(0x4000, "0123456789ab"); !bytes.Equal(got, want) {
						t.Errorf("got %q, want %q", got, want)
					}
				})
			}
			t.Run(addr.String()+" "+name+" indications", func(t *testing.T) {
				peer := udp.AddrPortOf(echoOn(t, turntest.Loopback6))
				c := dial(t, name, to)
				c.allocate(family(stun.IPv6))
				c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer)), 0)
				c.write(c.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(peer), turntest.Attr(stun.AttrData, 'x', 'y')))
				m := c.parse(c.read())
				for typ, value := range m.Attributes() {
					if typ == stun.AttrXORPeerAddress {
						if from, err := stun.ParseXORAddress(value, m.TransactionID); err != nil || from != peer {
							t.Errorf("data from %v, %v, want %v", from, err, peer)
						}
					}
				}
				if m.Method != stun.MethodData || m.Class != stun.ClassIndication {
					t.Errorf("got %v class %d, want a Data indication", m.Method, m.Class)
				}
			})
		}
	}
}

// TestMappedSources checks that an IPv4 client of a dual-stack socket is treated as an IPv4 client, on every transport.
func TestMappedSources(t *testing.T) {
	server, err := New(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.ServePacket(packets) })
	serving.Go(func() { _ = server.ServeStream(streams) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	for network, addr := range map[string]net.Addr{"udp": packets.LocalAddr(), "tcp": streams.Addr()} {
		for _, host := range []netip.Addr{turntest.Loopback, turntest.Loopback6} {
			c := dial(t, network, netip.AddrPortFrom(host, udp.AddrPortOf(addr).Port()))
			a := c.unsigned(stun.MethodBinding)
			mapped, err := stun.ParseXORAddress(a.attrs[stun.AttrXORMappedAddress], a.TransactionID)
			if want := udp.AddrPortOf(c.conn.LocalAddr()); err != nil || mapped != want || mapped.Addr() != host {
				t.Errorf("%s: mapped address %v, %v, want %v", network, mapped, err, want)
			}
			c.allocate()
		}
	}
}
