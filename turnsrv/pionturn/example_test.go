package pionturn_test

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v4"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/pionturn"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// A server on loopback relays a packet for a client, to a peer and back.
func ExampleServer() {
	if err := relayPacket(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// the peer got "ping"
	// the client got "pong"
}

func relayPacket() error {
	loopback := netip.MustParseAddr("127.0.0.1")
	relays, err := relay.New(relay.Config{
		Addresses: []relay.Address{{Bind: loopback, Advertise: loopback}},
		// Peers on loopback are for this example. Without rules, all addresses are refused that are not public.
		Peers: peer.New(peer.Rules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
	})
	if err != nil {
		return err
	}
	defer relays.Close()
	secret := credential.NewSecret([]byte("shared with whoever issues credentials"))
	server, err := pionturn.New(pionturn.Config{
		Realm:         "example.org",
		Authenticator: credential.Verifier{Secrets: []credential.Secret{secret}},
		Relay:         relays,
		Quotas:        pionturn.Quotas{MaxAllocations: 10000, MaxAllocationsPerUser: 40},
	})
	if err != nil {
		return err
	}
	defer server.Close()
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go server.ServePacket(socket)

	peerSocket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer peerSocket.Close()
	clientSocket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer clientSocket.Close()
	issued := credential.Issuer{Secret: secret, TTL: time.Hour}.Issue(time.Now())
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: socket.LocalAddr().String(), Conn: clientSocket,
		Username: issued.Username, Password: issued.Password, LoggerFactory: logging.NewDefaultLoggerFactory(),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		return err
	}
	relayed, err := client.Allocate()
	if err != nil {
		return err
	}
	defer relayed.Close()

	if _, err := relayed.WriteTo([]byte("ping"), peerSocket.LocalAddr()); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	n, from, err := peerSocket.ReadFrom(buf)
	if err != nil {
		return err
	}
	fmt.Printf("the peer got %q\n", buf[:n])
	if _, err := peerSocket.WriteTo([]byte("pong"), from); err != nil {
		return err
	}
	if n, _, err = relayed.ReadFrom(buf); err != nil {
		return err
	}
	fmt.Printf("the client got %q\n", buf[:n])
	return nil
}
