package turnsrv

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// relayedAll returns all relayed addresses of a response.
func (c *rawClient) relayedAll(a *answer) (addrs []netip.AddrPort) {
	c.t.Helper()
	for typ, value := range a.Attributes() {
		if typ == stun.AttrXORRelayedAddress {
			addr, err := stun.ParseXORAddress(value, a.TransactionID)
			if err != nil {
				c.t.Fatal(err)
			}
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func TestT24AdditionalAddressFamily(t *testing.T) {
	c, _ := udpClient(t, familiesConfig(t, turntest.Address4, turntest.Address6))
	for _, sets := range [][]turntest.Set{
		{turntest.Attr(stun.AttrAdditionalAddressFamily, byte(stun.IPv4), 0, 0, 0)},
		{turntest.Attr(stun.AttrAdditionalAddressFamily, 3, 0, 0, 0)},
		{turntest.Attr(stun.AttrAdditionalAddressFamily, byte(stun.IPv6))},
		{turntest.Additional, family(stun.IPv4)},
		{turntest.Additional, turntest.Attr(stun.AttrEvenPort, 0x80)},
		{turntest.Additional, turntest.Attr(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)},
	} {
		c.want(c.request(stun.MethodAllocate, append(sets, turntest.TransportUDP)...), 400)
	}
	a := c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Additional, turntest.Attr(stun.AttrEvenPort, 0)), 0)
	addrs := c.relayedAll(a)
	if len(addrs) != 2 || !addrs[0].Addr().Is4() || !addrs[1].Addr().Is6() || addrs[0].Port()%2+addrs[1].Port()%2 != 0 {
		t.Errorf("relayed addresses %v, want an even port of each family", addrs)
	}
	if a.attrs[stun.AttrAddressErrorCode] != nil {
		t.Error("an ADDRESS-ERROR-CODE beside two addresses")
	}
}

// TestT24CoturnsNumber checks that the attribute of turnutils_uclient -Z is recognized, and other attributes of the same number
// are not.
func TestT24CoturnsNumber(t *testing.T) {
	server := startServer(t, familiesConfig(t, turntest.Address4, turntest.Address6))
	for _, test := range []struct {
		value []byte
		want  int
	}{{[]byte{2, 0, 0, 0}, 2}, {[]byte{1, 0, 0, 0}, 1}, {[]byte("host.example"), 1}} {
		c := dial(t, "udp", server.udp)
		a := c.want(c.request(stun.MethodAllocate, turntest.TransportUDP,
			turntest.Attr(stun.AttrCoturnAdditionalAddressFamily, test.value...)), 0)
		if got := c.relayedAll(a); len(got) != test.want {
			t.Errorf("%q gave %v, want %d relayed addresses", test.value, got, test.want)
		}
	}
}

// TestT24OneFamily checks that a dual request gets the available family and an error code for the other one.
func TestT24OneFamily(t *testing.T) {
	full := familiesConfig(t, turntest.Address4, turntest.Address6)
	full.Quotas.MaxAllocationsPerUser = 1
	for _, test := range []struct {
		name   string
		config Config
		is4    bool
		want   []byte // ADDRESS-ERROR-CODE, without the reason
	}{
		{"IPv4 relay", familiesConfig(t, turntest.Address4), true, []byte{byte(stun.IPv6), 0, 4, 40}},
		{"IPv6 relay", familiesConfig(t, turntest.Address6), false, []byte{byte(stun.IPv4), 0, 4, 40}},
		{"quota", full, true, []byte{byte(stun.IPv6), 0, 5, 8}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, server := udpClient(t, test.config)
			a := c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Additional), 0)
			addrs := c.relayedAll(a)
			if len(addrs) != 1 || addrs[0].Addr().Is4() != test.is4 {
				t.Errorf("relayed addresses %v", addrs)
			}
			if got := a.attrs[stun.AttrAddressErrorCode]; !bytes.HasPrefix(got, test.want) {
				t.Errorf("ADDRESS-ERROR-CODE = %x, want %x", got, test.want)
			}
			c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
			if n := server.Allocations(); n != 0 {
				t.Errorf("%d allocations are left", n)
			}
		})
	}
	none := familiesConfig(t, turntest.Address4, turntest.Address6)
	none.Quotas.MaxAllocations = 1
	server := startServer(t, none)
	dial(t, "udp", server.udp).allocate()
	c := dial(t, "udp", server.udp)
	c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Additional), 486)
}

func TestT24BothFamiliesRelay(t *testing.T) {
	server := startServer(t, familiesConfig(t, turntest.Address4, turntest.Address6))
	for name, to := range map[string]netip.AddrPort{"udp": server.udp, "tcp": server.tcp} {
		t.Run(name, func(t *testing.T) {
			peer4, peer6 := udp.AddrPortOf(echo(t)), udp.AddrPortOf(echoOn(t, turntest.Loopback6))
			other4, other6 := udp.AddrPortOf(echo(t)), udp.AddrPortOf(echoOn(t, turntest.Loopback6))
			c := dial(t, name, to)
			c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Additional), 0)
			indication := func(peer netip.AddrPort) []byte {
				return c.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(peer), turntest.Attr(stun.AttrData, 'x'))
			}
			for _, peer := range []netip.AddrPort{peer4, peer6} {
				c.write(indication(peer)) // no permission yet
				c.silent()
			}

			// One request for peers of both families: all or none.
			refused := turntest.PeerAddr(netip.MustParseAddrPort("[fe80::1]:40000"))
			c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer4), refused), 403)
			c.write(indication(peer4))
			c.silent()
			c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(netip.MustParseAddrPort("[::ffff:127.0.0.1]:40000"))), 443)
			c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer4), turntest.PeerAddr(peer6)), 0)
			for _, peer := range []netip.AddrPort{peer4, peer6} {
				c.write(indication(peer))
				if m := c.parse(c.read()); m.Method != stun.MethodData {
					t.Errorf("%v: got %v, want a Data indication", peer, m.Method)
				}
			}

			// Channel numbers belong to the 5-tuple, whatever the family of the peer.
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer4)), 0)
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer6)), 400)
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4001), turntest.PeerAddr(peer6)), 0)
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4001), turntest.PeerAddr(other4)), 400)
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4002), turntest.PeerAddr(peer6)), 400)
			for _, number := range []uint16{0x4000, 0x4001} {
				c.write(turntest.ChannelData(number, "0123456789ab"))
				if got, want := c.read(), turntest.ChannelData(number, "0123456789ab"); !bytes.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			}

			// The relayed address of one family ends by itself.
			c.want(c.request(stun.MethodRefresh, family(stun.IPv4), turntest.Lifetime(0)), 0)
			c.want(c.request(stun.MethodRefresh, family(stun.IPv4)), 443)
			c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(other4)), 443)
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer4)), 443)
			c.write(turntest.ChannelData(0x4000, "gone"))
			c.silent()
			c.write(turntest.ChannelData(0x4001, "0123456789ab"))
			if got, want := c.read(), turntest.ChannelData(0x4001, "0123456789ab"); !bytes.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(other6)), 0)
			c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 437)
			c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
			c.want(c.request(stun.MethodRefresh), 437)
			c.allocate()
		})
	}
}

func TestT24WholeAllocation(t *testing.T) {
	c, server := udpClient(t, familiesConfig(t, turntest.Address4, turntest.Address6))
	c.challenge()
	request := c.message(stun.MethodAllocate, stun.ClassRequest, turntest.TransportUDP, turntest.Additional, c.sign)
	c.write(request)
	first := bytes.Clone(c.answer(stun.MethodAllocate).raw)
	c.write(request) // T44
	if again := c.answer(stun.MethodAllocate).raw; !bytes.Equal(first, again) {
		t.Errorf("answered %x and then %x", first, again)
	}
	if n := server.Allocations(); n != 2 {
		t.Errorf("%d relayed addresses, want 2", n)
	}
	if a := c.want(c.request(stun.MethodRefresh, turntest.Lifetime(777)), 0); a.lifetime() != 777*time.Second {
		t.Errorf("refreshed for %v", a.lifetime())
	}
	if a := c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0); a.lifetime() != 0 || server.Allocations() != 0 {
		t.Errorf("%d relayed addresses are left", server.Allocations())
	}
	// Closing the connection ends both.
	over := dial(t, "tcp", server.tcp)
	over.want(over.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Additional), 0)
	_ = over.conn.Close()
	for deadline := time.Now().Add(5 * time.Second); server.Allocations() != 0; c.silent() {
		if time.Now().After(deadline) {
			t.Fatalf("%d relayed addresses outlive their connection", server.Allocations())
		}
	}
}

// inDualBubble is inBubble with a relay of both families.
func inDualBubble(t *testing.T, f func(b *bubble)) {
	inBubble(t, func(config *Config) {
		config.NonceLifetime, config.MaxLifetime = 48*time.Hour, 24*time.Hour
		var users credential.Users
		if err := users.Add("alice", turntest.TestRealm, "wonderland"); err != nil {
			t.Fatal(err)
		}
		config.Authenticator = credential.Verifier{Users: users}
		config.Relay = turntest.TestRelay(t, relay.Config{Listen: turntest.NewMemNet().Listen,
			Addresses: []relay.Address{turntest.Address4, turntest.Address6}})
	}, f)
}

// TestT24HalvesExpireApart refreshes only one relayed address. The other one expires exactly on time for a client that uses it,
// and within a second for one that does not. The connection remains open.
func TestT24HalvesExpireApart(t *testing.T) {
	inDualBubble(t, func(b *bubble) {
		overStream := func() *rawClient {
			conn, err := b.stream.Dial()
			if err != nil {
				b.Fatal(err)
			}
			return newRawClient(b, conn, true)
		}
		peers := map[stun.Family]netip.AddrPort{stun.IPv4: turntest.PublicPeer,
			stun.IPv6: netip.MustParseAddrPort("[2606:4700::1]:40000")}
		var want []string
		for _, test := range []struct {
			connect        func() *rawClient
			longer, expire stun.Family
			asks           bool
			first, second  string
		}{
			{b.client, stun.IPv6, stun.IPv4, true, "127.0.0.1", "::1"},
			{b.client, stun.IPv4, stun.IPv6, false, "::1", "127.0.0.1"},
			{overStream, stun.IPv4, stun.IPv6, true, "::1", "127.0.0.1"},
			{overStream, stun.IPv6, stun.IPv4, false, "127.0.0.1", "::1"},
		} {
			c := test.connect()
			c.use(credential.Credential{Username: "alice", Password: "wonderland"})
			c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Additional), 0)
			time.Sleep(session.JanitorPeriod / 2) // so that the janitor does not run when the address expires
			c.want(c.request(stun.MethodRefresh, family(test.expire)), 0)
			c.want(c.request(stun.MethodRefresh, family(test.longer), turntest.Lifetime(1800)), 0)
			if test.asks {
				time.Sleep(10*time.Minute - time.Millisecond)
				c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peers[test.expire])), 0)
				time.Sleep(time.Millisecond)
				c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peers[test.expire])), 443)
			} else {
				time.Sleep(10*time.Minute + session.JanitorPeriod)
			}
			synctest.Wait()
			if n := b.server.Allocations(); n != 1 {
				b.Errorf("%d relayed addresses, want the one that was refreshed", n)
			}
			c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peers[test.longer])), 0)
			time.Sleep(30*time.Minute + session.JanitorPeriod)
			synctest.Wait()
			if n := b.server.Allocations(); n != 0 {
				b.Errorf("%d relayed addresses outlive their time", n)
			}
			if !c.stream { // which is closed by now
				c.want(c.request(stun.MethodRefresh), 437)
			}
			want = append(want, "expired "+test.first, "expired "+test.second)
		}
		var ended []string
		for _, e := range b.events {
			if e.Kind == event.AllocationEnded {
				ended = append(ended, e.End.String()+" "+e.Relayed.Addr().String())
			}
		}
		if !slices.Equal(ended, want) {
			b.Errorf("ended: %q, want %q", ended, want)
		}
	})
}

// TestT24AllocationAfterExpiry makes a new allocation on the 5-tuple of an allocation that has just expired, before the janitor
// has run: the request itself ends the old one. Nothing of the old one may affect the new one.
func TestT24AllocationAfterExpiry(t *testing.T) {
	both, one := []turntest.Set{turntest.Additional}, []turntest.Set{}
	inDualBubble(t, func(b *bubble) {
		for _, test := range []struct {
			old, new []turntest.Set
			want     int
		}{{both, one, 1}, {one, both, 2}, {both, both, 2}, {one, one, 1}} {
			c := b.client()
			c.use(credential.Credential{Username: "alice", Password: "wonderland"})
			c.want(c.request(stun.MethodAllocate, append(test.old, turntest.TransportUDP)...), 0)
			time.Sleep(session.JanitorPeriod / 2) // so that the janitor does not run when it expires
			c.want(c.request(stun.MethodRefresh), 0)
			time.Sleep(DefaultLifetime)
			if a := c.want(c.request(stun.MethodAllocate, append(test.new, turntest.TransportUDP)...),
				0); len(c.relayedAll(a)) != test.want {
				b.Errorf("relayed addresses %v, want %d", c.relayedAll(a), test.want)
			}
			synctest.Wait()
			if n := b.server.Allocations(); n != test.want {
				b.Errorf("%d allocations, want those %d that are new", n, test.want)
			}
			c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(turntest.PublicPeer)), 0)
			time.Sleep(DefaultLifetime + session.JanitorPeriod)
			synctest.Wait()
			if n := b.server.Allocations(); n != 0 {
				b.Fatalf("%d allocations live for ever", n)
			}
		}
	})
}

// TestT24LifetimeOfADay checks that both relayed addresses have the granted lifetime.
func TestT24LifetimeOfADay(t *testing.T) {
	inDualBubble(t, func(b *bubble) {
		c := b.client()
		c.use(credential.Credential{Username: "alice", Password: "wonderland"})
		c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Additional, turntest.Lifetime(86400)), 0)
		time.Sleep(23 * time.Hour)
		for _, half := range []stun.Family{stun.IPv4, stun.IPv6} {
			c.want(c.request(stun.MethodRefresh, family(half)), 0)
		}
	})
}

// TestT24TimeMayMend expects the temporary error rather than the permanent one.
func TestT24TimeMayMend(t *testing.T) {
	config := familiesConfig(t, turntest.Address4)
	config.Relay = turntest.TestRelay(t, relay.Config{Addresses: []relay.Address{turntest.Address4}, MinPort: 61000, MaxPort: 61000,
		Listen: turntest.NewMemNet().Listen})
	server := startServer(t, config)
	dial(t, "udp", server.udp).allocate()
	c := dial(t, "udp", server.udp)
	c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, family(stun.IPv6)), 440)
	c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Additional), 508)
}
