package issuer

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// fixed is a Directory that does not change.
type fixed struct {
	relays []cluster.Relay
	region string
}

func (f fixed) Relays() []cluster.Relay { return f.relays }
func (f fixed) Region(client netip.Addr) string {
	if client.Is6() {
		return "of IPv6"
	}
	return f.region
}

// member returns a relay that accepts secretB.
func member(server string, change func(*cluster.Relay)) cluster.Relay {
	r := cluster.Relay{
		Name: server, Incarnation: "1", Server: server, UDP: []uint16{3478}, TCP: []uint16{3478}, TLS: []uint16{5349},
		Secrets: []string{cluster.SecretID([]byte(secretB))}, Weight: 1,
	}
	if change != nil {
		change(&r)
	}
	return r
}

// joined returns a Config for an external relay in the file, with secretB, in a cluster.
func joined(t *testing.T, attributes, region string, relays ...cluster.Relay) Config {
	t.Helper()
	c := linked(t, fmt.Sprintf("\n turn_server = \"file.example.org\"\n turn_secret = %q\n%s", secretB, attributes))
	c.Join(fixed{relays, region}, nil)
	return c
}

func TestForPrefersLiveRelays(t *testing.T) {
	const one, two = "one.example.org", "two.example.org"
	draining := func(r *cluster.Relay) { r.Refuses = cluster.Draining }
	full := func(r *cluster.Relay) { r.Capacity, r.Allocations = 10, 10 }
	stranger := func(r *cluster.Relay) { r.Secrets = []string{cluster.SecretID([]byte("another"))} }
	here := func(r *cluster.Relay) { r.Region = "eu" }
	failed := func(by ...string) func(*cluster.Relay) { return func(r *cluster.Relay) { r.FailedBy = by } }
	for name, tt := range map[string]struct {
		relays []cluster.Relay
		want   string
	}{
		"none":                        {nil, "file.example.org"},
		"one":                         {[]cluster.Relay{member(one, nil)}, one},
		"one that drains":             {[]cluster.Relay{member(one, draining), member(two, nil)}, two},
		"only one that drains":        {[]cluster.Relay{member(one, draining)}, "file.example.org"},
		"one that is full":            {[]cluster.Relay{member(one, full), member(two, nil)}, two},
		"only one that is full":       {[]cluster.Relay{member(one, full)}, "file.example.org"},
		"failed from one":             {[]cluster.Relay{member(one, failed("a"))}, one},
		"failed from two":             {[]cluster.Relay{member(one, failed("a", "b")), member(two, nil)}, two},
		"only one, failed from two":   {[]cluster.Relay{member(one, failed("a", "b"))}, "file.example.org"},
		"no weight":                   {[]cluster.Relay{member(one, func(r *cluster.Relay) { r.Weight = 0 })}, "file.example.org"},
		"another secret":              {[]cluster.Relay{member(one, stranger)}, "file.example.org"},
		"a near one":                  {[]cluster.Relay{member(one, nil), member(two, here)}, two},
		"a near one that is full":     {[]cluster.Relay{member(one, nil), member(two, func(r *cluster.Relay) { here(r); full(r) })}, one},
		"a near one that drains":      {[]cluster.Relay{member(one, nil), member(two, func(r *cluster.Relay) { here(r); draining(r) })}, one},
		"a near one of other secrets": {[]cluster.Relay{member(one, nil), member(two, func(r *cluster.Relay) { here(r); stranger(r) })}, one},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 20 { // accounts
				if got := joined(t, "", "eu", tt.relays...).For(fmt.Sprint("user", i)).Server.V; got != tt.want {
					t.Fatalf("user%d has %s, want %s", i, got, tt.want)
				}
			}
		})
	}
}

// TestNearTheClient checks that the address of a client decides, if it is known, and that all relays are equal without a region.
func TestNearTheClient(t *testing.T) {
	in := func(region string) func(*cluster.Relay) { return func(r *cluster.Relay) { r.Region = region } }
	relays := []cluster.Relay{member("eu.example.org", in("eu")), member("six.example.org", in("of IPv6")), member("none.example.org", nil)}
	c := joined(t, "", "eu", relays...)
	a := NewAlternates()
	a.Set([]*Config{&c}, secrets(secretB), nil)
	if err := a.Look(t.Context(), func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, nil
	}); err != nil {
		t.Fatal(err)
	}
	without := joined(t, "", "", relays...)
	told := make(map[string]bool)
	for i := range 50 {
		account := fmt.Sprint("user", i)
		told[without.For(account).Server.V] = true
		for client, want := range map[string]string{"203.0.113.1": "eu.example.org", "2001:db8::2": "six.example.org"} {
			addr := netip.MustParseAddr(client)
			if got := c.ForClient(account, addr).Server.V; got != want {
				t.Fatalf("%s at %s has %s, want %s", account, client, got, want)
			}
			if _, got, _ := a.For(account, event.FiveTuple{Client: netip.AddrPortFrom(addr, 5000)}); got != want {
				t.Fatalf("during a drain, %s at %s is sent to %s, want %s", account, client, got, want)
			}
		}
	}
	if len(told) != len(relays) {
		t.Errorf("without a region, accounts are told only %v", told)
	}
}

// TestLiveRelaysShareByWeight checks that accounts are spread as between relay blocks, and that those of a relay that dies are spread
// over the others while no other account moves.
func TestLiveRelaysShareByWeight(t *testing.T) {
	heavy := member("heavy.example.org", func(r *cluster.Relay) { r.Weight = 2 })
	a, b := member("a.example.org", nil), member("b.example.org", nil)
	all := joined(t, "", "", heavy, a, b)
	count, before := choices(all, accounts)
	for server, share := range map[string]float64{"heavy.example.org": .5, "a.example.org": .25, "b.example.org": .25} {
		deviation := math.Sqrt(accounts * share * (1 - share))
		if got := float64(count[server]); math.Abs(got-accounts*share) > 5*deviation {
			t.Errorf("%s has %v of %d accounts, want %v of them", server, got, accounts, share)
		}
	}
	_, after := choices(joined(t, "", "", heavy, a), accounts)
	moved := make(map[string]int)
	for i := range before {
		switch {
		case before[i] == b.Server:
			moved[after[i]]++
		case before[i] != after[i]:
			t.Fatalf("user%d moved from %s to %s, which are both alive", i, before[i], after[i])
		}
	}
	if share := float64(moved[heavy.Server]) / float64(count[b.Server]); math.Abs(share-2./3) > .05 {
		t.Errorf("%.2f of the accounts of the dead relay have moved to the one with two thirds of the weight", share)
	}
}

// TestLiveRelayIsAdvertised checks what clients are told about a relay of the cluster.
func TestLiveRelayIsAdvertised(t *testing.T) {
	tests := []struct {
		name, attributes string
		change           func(*cluster.Relay)
		want             string
	}{
		{"all", "", nil, "turn:r.example.org:3478?transport=udp turn:r.example.org:3478?transport=tcp turns:r.example.org:5349?transport=tcp"},
		{"without TLS", "", func(r *cluster.Relay) { r.TLS = nil }, "turn:r.example.org:3478?transport=udp turn:r.example.org:3478?transport=tcp"},
		{"other ports", "", func(r *cluster.Relay) { r.UDP, r.TCP, r.TLS = []uint16{443, 3478}, nil, []uint16{443} },
			"turn:r.example.org:443?transport=udp turns:r.example.org:443?transport=tcp"},
		{"TLS preferred, and served", "turn_prefer_tls = true\n", func(r *cluster.Relay) { r.UDP, r.TCP, r.TLS = []uint16{3478, 443}, []uint16{443}, []uint16{5349, 443} },
			"turn:r.example.org:443?transport=udp turn:r.example.org:443?transport=tcp turns:r.example.org:443?transport=tcp"},
		{"TLS preferred, and not served on the UDP port", "turn_prefer_tls = true\n", nil,
			"turn:r.example.org:3478?transport=udp turn:r.example.org:3478?transport=tcp turns:r.example.org:5349?transport=tcp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := joined(t, tt.attributes, "", member("r.example.org", tt.change))
			for _, live := range append(c.All(), c.For("alice")) {
				uris := ""
				for _, uri := range live.URIs() {
					uris += " " + uri
				}
				if uris != " "+tt.want {
					t.Errorf("clients are told%s,\nwant %s", uris, tt.want)
				}
				if r := member("r.example.org", tt.change); live.identity() != liveIdentity(r) {
					t.Errorf("its accounts are chosen for %s, and it is %s", liveIdentity(r), live.identity())
				}
				if live.TTL.V != c.TTL.V || string(live.Secrets.V[0].Bytes()) != secretB {
					t.Error("credentials differ from those of the file")
				}
			}
		})
	}
}

// TestSecretOfARelayBlock has a relay of the cluster that accepts only the secret of a relay block.
func TestSecretOfARelayBlock(t *testing.T) {
	c := linked(t, relayBlock("file.example.org", 1))
	c.Join(fixed{relays: []cluster.Relay{member("one.example.org", nil)}}, nil)
	live := c.For("alice")
	if live.Server.V != "one.example.org" || string(live.Secrets.V[0].Bytes()) != secretB {
		t.Errorf("%s with %v", live.Server.V, live.Secrets.V)
	}
}

// TestLiveElsewhere checks that a client is sent only to relays which accept the secret of this file, too, with which its credential may have
// been issued.
func TestLiveElsewhere(t *testing.T) {
	ring := new(credential.Ring)
	made := credential.NewSecret([]byte("a secret that the machines made"))
	id := cluster.SecretID(made.Bytes())
	ring.Set([]credential.Secret{made}, []credential.Identified{{ID: id, Secret: made}})
	c := joined(t, "", "")
	c.Join(fixed{relays: []cluster.Relay{
		member("same.example.org", func(r *cluster.Relay) { r.Secrets = append([]string{id}, r.Secrets...) }),
		member("other.example.org", func(r *cluster.Relay) { r.Secrets = []string{id, "that of another file"} }),
	}}, ring)
	if got := c.liveElsewhere(); len(got) != 1 || got[0].Server.V != "same.example.org" {
		t.Errorf("%+v", got)
	}
}

// TestDrainInCluster checks that accounts and clients leave the relay of this process as soon as it drains, before the cluster knows.
func TestDrainInCluster(t *testing.T) {
	own := member("own.example.org", func(r *cluster.Relay) { r.Own, r.Weight = true, 1000 })
	other := member("other.example.org", nil)
	c := joined(t, "", "", own, other, member("full.example.org", func(r *cluster.Relay) { r.Capacity, r.Allocations = 1, 1 }))
	c.Draining = new(atomic.Bool)
	if got := c.For("alice").Server.V; got != own.Server {
		t.Fatalf("alice has %s", got)
	}
	c.Draining.Store(true)
	if got := c.For("alice").Server.V; got != other.Server {
		t.Errorf("alice has %s during the drain", got)
	}
	a := NewAlternates()
	a.Set([]*Config{&c}, secrets(secretA, secretB), nil)
	asked := ""
	err := a.Look(t.Context(), func(_ context.Context, host string) ([]netip.Addr, error) {
		asked += host + " "
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
	})
	server, domain, ok := a.For("alice", event.FiveTuple{Client: netip.MustParseAddrPort("203.0.113.1:5000")})
	if err != nil || asked != other.Server+" " || server.String() != "192.0.2.1:3478" || domain != other.Server || !ok {
		t.Errorf("clients are sent to %v, %q, %v; looked up %s(%v)", server, domain, ok, asked, err)
	}
}
