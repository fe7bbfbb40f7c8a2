package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/event"
)

// draining returns an issuer with the relay of this file and with those of blocks, and the switch of its drain.
func draining(t *testing.T, blocks string) (Config, *atomic.Bool) {
	t.Helper()
	c, block := decode(t, "\n  relay {\n    turn_server = \"here.example.org\"\n  }"+blocks)
	if diags := c.Link(testRelay(), block); len(diags) > 0 {
		t.Fatal(diags)
	}
	c.Draining = new(atomic.Bool)
	return c, c.Draining
}

// TestForWhileDraining checks that the accounts of a relay that drains get another one, and only these, and that they return.
func TestForWhileDraining(t *testing.T) {
	c, drains := draining(t, relayBlock("a.example.org", 1)+relayBlock("b.example.org", 1)+relayBlock("none.example.org", 0))
	count, before := choices(c, accounts)
	if count["here.example.org"] == 0 {
		t.Fatalf("accounts: %v", count)
	}
	drains.Store(true)
	count, during := choices(c, accounts)
	if count["here.example.org"] != 0 || count["none.example.org"] != 0 || !c.Diverts() {
		t.Errorf("accounts during a drain: %v", count)
	}
	for i := range before {
		if before[i] != "here.example.org" && before[i] != during[i] {
			t.Fatalf("account %d moved from %s to %s", i, before[i], during[i])
		}
	}
	drains.Store(false)
	if _, after := choices(c, accounts); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Error("the accounts do not return after a drain")
	}

	for name, blocks := range map[string]string{"no other relay": "", "no other relay with a weight": relayBlock("none.example.org", 0)} {
		c, drains := draining(t, blocks)
		drains.Store(true)
		if got := c.For("alice@example.org").Server.V; got != "here.example.org" || c.Diverts() {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// TestAlternates checks that a client is sent to the relay that For chooses for its account, where the credential is accepted, over
// the same transport and address family.
func TestAlternates(t *testing.T) {
	foreign := strings.Replace(relayBlock("foreign.example.org", 100), secretB, "another secret, which this relay does not accept", 1)
	c, drains := draining(t, relayBlock("a.example.org", 1)+relayBlock("b.example.org", 1)+relayBlock("none.example.org", 0)+foreign+`
  relay {
    turn_server     = "192.0.2.9"
    turn_secret     = "`+secretB+`"
    turn_transports = "tcp"
    turns_port      = 0
  }`)
	drains.Store(true)
	names := map[string][]netip.Addr{
		"a.example.org":       {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		"b.example.org":       {netip.MustParseAddr("192.0.2.2")},
		"192.0.2.9":           {netip.MustParseAddr("192.0.2.9")},
		"none.example.org":    {netip.MustParseAddr("192.0.2.3")},
		"foreign.example.org": {netip.MustParseAddr("192.0.2.4")},
	}
	lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
		addrs, ok := names[host]
		if !ok {
			return nil, errors.New("no address")
		}
		return addrs, nil
	}
	v4 := event.FiveTuple{Client: netip.MustParseAddrPort("203.0.113.1:5000")}
	v6 := event.FiveTuple{Client: netip.MustParseAddrPort("[2001:db8:1::1]:5000"), Transport: event.TLS}

	a := NewAlternates()
	a.Set([]*Config{&c, &c}, secrets(secretA, secretB), nil)
	if _, _, ok := a.For("alice@example.org", v4); ok {
		t.Error("there are relays before the first lookup")
	}
	if err := a.Look(t.Context(), lookup); err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for i := range 1000 {
		account := fmt.Sprintf("user%d@example.org", i)
		server, domain, ok := a.For(account, v4)
		if told := c.For(account).Server.V; ok && (told == "a.example.org" || told == "b.example.org") && told != domain {
			t.Fatalf("%s is told %s, and sent to %s", account, told, domain)
		}
		count[server.String()+" "+domain]++
		if server, domain, ok := a.For(account, v6); !ok || server.String() != "[2001:db8::1]:5349" || domain != "a.example.org" {
			t.Fatalf("over IPv6 and TLS: %v %s %v", server, domain, ok)
		}
	}
	if len(count) != 2 || count["192.0.2.1:3478 a.example.org"] < 400 || count["192.0.2.2:3478 b.example.org"] < 400 {
		t.Errorf("over UDP: %v", count)
	}

	v4.Transport = event.TCP
	for i := range 100 {
		server, domain, _ := a.For(fmt.Sprintf("user%d@example.org", i), v4)
		count[server.String()+" "+domain]++
	}
	if count["192.0.2.9:3478 "] == 0 {
		t.Errorf("over TCP: %v", count)
	}
	v4.Transport = event.DTLS
	if server, _, ok := a.For("alice@example.org", v4); ok {
		t.Errorf("over DTLS, on which no relay is known to listen: %v", server)
	}

	delete(names, "b.example.org")
	if err := a.Look(t.Context(), lookup); err == nil {
		t.Error("no error for a name without an address")
	}
	v4.Transport = event.UDP
	domains := func(a *Alternates) map[string]bool {
		domains := make(map[string]bool)
		for i := range 100 {
			_, domain, _ := a.For(fmt.Sprintf("user%d@example.org", i), v4)
			domains[domain] = true
		}
		return domains
	}
	if got := domains(a); !got["a.example.org"] || !got["b.example.org"] {
		t.Errorf("after a lookup that has failed: %v, want both relays at their former addresses", got)
	}
	late := NewAlternates()
	late.Set([]*Config{&c}, secrets(secretA, secretB), nil)
	if err := late.Look(t.Context(), lookup); err == nil {
		t.Error("no error for a name without an address")
	}
	if got := domains(late); !got["a.example.org"] || len(got) != 1 {
		t.Errorf("the other relay never had an address: got %v", got)
	}
}
