// Package pionturntest provides a server for tests of TURN clients.
package pionturntest

import (
	"net/netip"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/pionturn"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// The only user of a server returned by New.
const (
	Realm    = "example.org"
	Username = "alice"
	Password = "wonderland"
)

// New returns a server without sockets. It relays from 127.0.0.1 to peers on loopback and is closed at the end of the test.
func New(t testing.TB, quotas pionturn.Quotas) *pionturn.Server {
	t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	relays, err := relay.New(relay.Config{
		Addresses: []relay.Address{{Bind: loopback, Advertise: loopback}},
		Peers:     peer.New(peer.Rules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
	})
	if err != nil {
		t.Fatal(err)
	}
	var users credential.Users
	if err := users.Add(Username, Realm, Password); err != nil {
		t.Fatal(err)
	}
	server, err := pionturn.New(pionturn.Config{Realm: Realm, Authenticator: credential.Verifier{Users: users}, Relay: relays, Quotas: quotas})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Close()
		_ = relays.Close()
	})
	return server
}
