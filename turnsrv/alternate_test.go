package turnsrv

import (
	"crypto/tls"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestAlternate drains a server that knows another one, and wants 300 with that for clients of its address family which have proved
// who they are, with its name only for those that verify a certificate (RFC 8489 sections 10, 14.15 and 14.16).
func TestAlternate(t *testing.T) {
	config := testConfig(t)
	asked := make(chan string, 10)
	var alternate atomic.Value // netip.AddrPort
	other := netip.MustParseAddrPort("192.0.2.7:3479")
	alternate.Store(other)
	config.Alternate = func(account string, tuple event.FiveTuple) (netip.AddrPort, string, bool) {
		asked <- tuple.Transport.String() + " " + account
		server := alternate.Load().(netip.AddrPort)
		return server, "turn2.example.org", server.IsValid()
	}
	user := turntest.TestCredential()
	c, server := udpClient(t, config)
	c.allocate()
	server.SetDraining(true)
	c.want(c.request(stun.MethodRefresh), 0)

	secure, err := tls.Dial("tcp4", server.tls.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		client *rawClient
		domain string
	}{
		{dial(t, "udp", server.udp), ""},
		{dial(t, "tcp", server.tcp), ""},
		{newRawClient(t, secure, true), "turn2.example.org"},
	} {
		tt.client.use(user)
		tt.client.want(tt.client.unsigned(stun.MethodAllocate, turntest.TransportUDP), stun.CodeUnauthenticated)
		a := tt.client.want(tt.client.request(stun.MethodAllocate, turntest.TransportUDP), stun.CodeTryAlternate)
		server, domain := a.attrs[stun.AttrAlternateServer], string(a.attrs[stun.AttrAlternateDomain])
		want := append([]byte{0, byte(stun.IPv4)}, binary.BigEndian.AppendUint16(nil, other.Port())...)
		if want = append(want, other.Addr().AsSlice()...); string(server) != string(want) || domain != tt.domain {
			t.Errorf("ALTERNATE-SERVER %x, ALTERNATE-DOMAIN %q; want %x and %q", server, domain, want, tt.domain)
		}
	}
	for _, want := range []string{"UDP ", "TCP ", "TLS "} {
		if got := <-asked; got != want+user.Username {
			t.Errorf("Alternate was asked for %q, want %q: only for clients with credentials", got, want+user.Username)
		}
	}
	if len(asked) > 0 {
		t.Errorf("Alternate was asked %d times more than once over each transport", len(asked))
	}

	for _, unusable := range []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::7]:3479"), {}} {
		alternate.Store(unusable)
		late := dial(t, "udp", server.udp)
		late.want(late.request(stun.MethodAllocate, turntest.TransportUDP), stun.CodeInsufficientCapacity)
	}
}
