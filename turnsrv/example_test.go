package turnsrv_test

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// A server on loopback for whoever has a credential of the shared secret.
func ExampleServer() {
	loopback := netip.MustParseAddr("127.0.0.1")
	relays, err := relay.New(relay.Config{
		Addresses: []relay.Address{{Bind: loopback, Advertise: loopback}},
		Peers:     peer.New(peer.Rules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := turnsrv.New(turnsrv.Config{
		Realm:         "example.org",
		Authenticator: credential.Verifier{Secrets: []credential.Secret{credential.NewSecret([]byte("shared secret"))}},
		Relay:         relays,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error)
	go func() { served <- server.ServePacket(socket) }()

	fmt.Println(server.Allocations(), "allocations")
	fmt.Println(server.Close(), relays.Close(), <-served)
	// Output:
	// 0 allocations
	// <nil> <nil> turnsrv: server closed
}
