package turntest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// Loopback addresses, and the relay addresses made from them.
var (
	Loopback  = netip.MustParseAddr("127.0.0.1")
	Loopback6 = netip.IPv6Loopback()
	Address4  = relay.Address{Bind: Loopback, Advertise: Loopback}
	Address6  = relay.Address{Bind: Loopback6, Advertise: Loopback6}
)

// TestRealm and TestSecret are the realm and the secret of the servers under test.
const (
	TestRealm  = "example.org"
	TestSecret = "a secret of the tests"
)

// TestRelay returns an Allocator for config. By default it has the address 127.0.0.1 and allows loopback peers. It is closed at
// the end of the test.
func TestRelay(t testing.TB, config relay.Config) *relay.Allocator {
	t.Helper()
	if config.Addresses == nil {
		config.Addresses = []relay.Address{{Bind: Loopback, Advertise: Loopback}}
	}
	if config.Peers == nil {
		config.Peers = peer.New(peer.Rules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	}
	a, err := relay.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// TestCredential returns a credential that expires in an hour.
func TestCredential() credential.Credential {
	return credential.Issuer{Secret: credential.NewSecret([]byte(TestSecret)), TTL: time.Hour}.Issue(time.Now())
}
