package neighbor

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

var secret = credential.NewSecret([]byte("correct horse battery staple"))

// startRelay starts a server on UDP and TCP, and returns what it would announce.
func startRelay(t *testing.T, change func(*turnsrv.Config)) cluster.Relay {
	t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	relays, err := relay.New(relay.Config{Addresses: []relay.Address{{Bind: loopback, Advertise: loopback}}, Peers: peer.New(peer.Rules{})})
	if err != nil {
		t.Fatal(err)
	}
	config := turnsrv.Config{Realm: "example.org", Authenticator: credential.Verifier{Secrets: []credential.Secret{secret}}, Relay: relays}
	if change != nil {
		change(&config)
	}
	server, err := turnsrv.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close(); relays.Close() })
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.ServePacket(packets)
	go server.ServeStream(streams)
	return cluster.Relay{
		Name: "one", Server: "127.0.0.1", UDP: []uint16{uint16(packets.LocalAddr().(*net.UDPAddr).Port)},
		TCP: []uint16{uint16(streams.Addr().(*net.TCPAddr).Port)},
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	good := startRelay(t, nil)
	if err := Probe(t.Context(), good, secret, "two"); err != nil {
		t.Error(err)
	}
	full := startRelay(t, func(c *turnsrv.Config) { c.MaxAllocations = 2 })
	for range 2 { // nothing is left of a probe, or the second one would be refused
		if err := Probe(t.Context(), full, secret, "two"); err != nil {
			t.Error(err)
		}
	}
	if err := Probe(t.Context(), good, credential.NewSecret([]byte("another secret of a relay")), "two"); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("with a wrong secret: %v", err)
	}
	closed := good
	closed.TCP = []uint16{1}
	if err := Probe(t.Context(), closed, secret, "two"); err == nil || !strings.HasPrefix(err.Error(), "TCP port 1: ") {
		t.Errorf("with a closed port: %v", err)
	}
}

// TestSilentRelay has a port that does not answer, as a firewall makes it.
func TestSilentRelay(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	good := startRelay(t, nil)
	good.UDP[0] = uint16(silent.LocalAddr().(*net.UDPAddr).Port)
	began := time.Now()
	if err := Probe(t.Context(), good, secret, "two"); err == nil || !strings.HasSuffix(err.Error(), ": no answer") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > attempts*patience+2*time.Second {
		t.Errorf("took %v", took)
	}
}
