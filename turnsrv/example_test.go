package turnsrv_test

import (
	"fmt"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/pion/turn/v4"

	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// A server on loopback relays between a client with an issued credential and a peer that echoes.
func ExampleServer() {
	secret := credential.NewSecret([]byte("correct horse battery staple"))
	loopback := netip.MustParseAddr("127.0.0.1")
	relays, err := relay.New(relay.Config{
		Addresses: []relay.Address{{Bind: loopback, Advertise: loopback}},
		Peers:     peer.New(peer.Rules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
	})
	if err != nil {
		log.Fatal(err)
	}
	server, err := turnsrv.New(turnsrv.Config{
		Realm:         "example.org",
		Authenticator: credential.Verifier{Secrets: []credential.Secret{secret}},
		Relay:         relays,
		OnEvent: func(e event.Event) {
			if e.Kind == event.AllocationMade {
				fmt.Println(e.Kind, "over", e.Tuple.Transport, "for", e.Lifetime)
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	socket := listen()
	served := make(chan error)
	go func() { served <- server.ServePacket(socket) }()

	issued := credential.Issuer{Secret: secret, TTL: time.Hour}.Issue(time.Now())
	fmt.Println("the peer answers:", call(socket.LocalAddr(), issued, echo()))

	fmt.Println(server.Close(), relays.Close(), <-served)
	// Output:
	// allocation made over UDP for 10m0s
	// the peer answers: hello
	// <nil> <nil> turnsrv: server closed
}

// call sends hello to peer through the server and returns the response.
func call(server net.Addr, c credential.Credential, peer net.Addr) string {
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: server.String(), Conn: listen(), Username: c.Username, Password: c.Password, Realm: "example.org",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		log.Fatal(err)
	}
	relayed, err := client.Allocate()
	if err != nil {
		log.Fatal(err)
	}
	defer relayed.Close()
	if _, err := relayed.WriteTo([]byte("hello"), peer); err != nil {
		log.Fatal(err)
	}
	answer := make([]byte, 1500)
	n, _, err := relayed.ReadFrom(answer)
	if err != nil {
		log.Fatal(err)
	}
	return string(answer[:n])
}

// echo returns the address of a peer that sends back what it gets.
func echo() net.Addr {
	conn := listen()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buf[:n], from)
		}
	}()
	return conn.LocalAddr()
}

func listen() net.PacketConn {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return conn
}
