package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/pionturn"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// Pion runs the command "bench pion PLAIN SECURE CERT KEY PEERS": pion/turn as run by package pionturn, without limits. It serves
// UDP and TCP at one address and TLS at another.
func Pion(args []string) error {
	if len(args) != 5 {
		return errors.New("want two addresses to serve at, the files of a certificate and its key, and the network of peers")
	}
	cert, err := tls.LoadX509KeyPair(args[2], args[3])
	if err != nil {
		return err
	}
	peers, err := netip.ParsePrefix(args[4])
	if err != nil {
		return err
	}
	server, _, err := servePion(args[0], args[1], cert, peers)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return server.Close()
}

// servePion starts the server, and returns its addresses. That of TCP has the port of UDP's.
func servePion(plain, secure string, cert tls.Certificate, peers netip.Prefix) (*pionturn.Server, address, error) {
	packets, err := net.ListenPacket("udp4", plain)
	if err != nil {
		return nil, address{}, err
	}
	addr := packets.LocalAddr().(*net.UDPAddr).AddrPort()
	streams, err := net.Listen("tcp4", addr.String())
	if err != nil {
		return nil, address{}, err
	}
	encrypted, err := tls.Listen("tcp4", secure, &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return nil, address{}, err
	}
	relays, err := relay.New(relay.Config{
		Addresses: []relay.Address{{Bind: addr.Addr(), Advertise: addr.Addr()}},
		Peers:     peer.New(peer.Rules{Allow: []netip.Prefix{peers}}),
	})
	if err != nil {
		return nil, address{}, err
	}
	server, err := pionturn.New(pionturn.Config{
		Realm: realm, Relay: relays,
		Authenticator: credential.Verifier{Secrets: []credential.Secret{credential.NewSecret([]byte(secret))}},
	})
	if err != nil {
		return nil, address{}, err
	}
	go server.ServePacket(packets) // they end with Close
	go server.ServeStream(streams)
	go server.ServeStream(encrypted)
	return server, address{host: addr.Addr(), port: addr.Port(), tls: encrypted.Addr().(*net.TCPAddr).AddrPort().Port()}, nil
}
