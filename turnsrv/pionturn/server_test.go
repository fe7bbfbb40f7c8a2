package pionturn

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v4"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

const testRealm = "example.org"

var (
	loopback  = netip.MustParseAddr("127.0.0.1")
	oldSecret = credential.NewSecret([]byte("the secret of last week"))
	newSecret = credential.NewSecret([]byte("the secret of this week"))
)

// testConfig returns a configuration for loopback that permits loopback peers.
func testConfig(t testing.TB) Config {
	t.Helper()
	relays, err := relay.New(relay.Config{
		Addresses: []relay.Address{{Bind: loopback, Advertise: loopback}},
		Peers:     peer.New(peer.Rules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relays.Close() })
	var users credential.Users
	if err := users.Add("alice", testRealm, "wonderland"); err != nil {
		t.Fatal(err)
	}
	return Config{
		Realm: testRealm, Relay: relays,
		Authenticator: credential.Verifier{Secrets: []credential.Secret{newSecret, oldSecret}, Users: users, MaxLifetime: 48 * time.Hour},
	}
}

// TestBetweenTwoClients makes a call between two clients of a server behind a NAT that sends nothing back. Datagrams from other
// peers in the meantime must not be lost.
func TestBetweenTwoClients(t *testing.T) {
	config := testConfig(t)
	public := netip.MustParseAddr("203.0.113.7")
	relays, err := relay.New(relay.Config{
		Addresses: []relay.Address{{Bind: loopback, Advertise: public}},
		Peers:     peer.New(peer.Rules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relays.Close() })
	config.Relay = relays
	server := start(t, config)
	alice := server.client(t, "UDP", issue(newSecret, time.Hour))
	bob := server.client(t, "TCP", issue(newSecret, time.Hour))
	fromAlice, fromBob := allocate(t, alice), allocate(t, bob)
	if got := udp.AddrPortOf(fromAlice.LocalAddr()).Addr(); got != public {
		t.Errorf("the relayed address is %v, want %v", got, public)
	}
	far, buf := echo(t), make([]byte, 100)
	if err := bob.CreatePermission(fromAlice.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := fromBob.WriteTo([]byte("an echo"), far); err != nil {
			t.Fatal(err)
		}
		if _, err := fromAlice.WriteTo([]byte("hello bob"), fromBob.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for range 2 {
			if err := fromBob.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, from, err := fromBob.ReadFrom(buf)
			if err != nil {
				t.Fatalf("round %d: %v after %v", i, err, got)
			}
			got[string(buf[:n])] = from.String()
		}
		if got["an echo"] != far.String() || got["hello bob"] != fromAlice.LocalAddr().String() {
			t.Fatalf("round %d: bob got %v", i, got)
		}
	}
}

func issue(secret credential.Secret, ttl time.Duration) credential.Credential {
	return credential.Issuer{Secret: secret, TTL: ttl}.Issue(time.Now())
}

// testServer is a Server with a socket of each kind on loopback.
type testServer struct {
	*Server
	addresses map[string]string // by transport
}

func start(t testing.TB, config Config) *testServer {
	t.Helper()
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	for _, serve := range []func() error{
		func() error { return server.ServePacket(packets) },
		func() error { return server.ServeStream(plain) },
		func() error { return server.ServeStream(tls.NewListener(inner, testTLS(t))) },
	} {
		serving.Go(func() {
			if err := serve(); err != ErrServerClosed {
				t.Errorf("got %v, want ErrServerClosed", err)
			}
		})
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return &testServer{server, map[string]string{
		"UDP": packets.LocalAddr().String(), "TCP": plain.Addr().String(), "TLS": inner.Addr().String(),
	}}
}

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{turntest.TestCertificate(t)}}
}

// client connects pion's client.
func (s *testServer) client(t testing.TB, transport string, c credential.Credential) *turn.Client {
	t.Helper()
	address := s.addresses[transport]
	var conn net.PacketConn
	var err error
	switch transport {
	case "UDP":
		conn, err = net.ListenPacket("udp4", "127.0.0.1:0")
	default:
		var stream net.Conn
		if stream, err = net.Dial("tcp4", address); err == nil {
			if transport == "TLS" {
				stream = tls.Client(stream, &tls.Config{InsecureSkipVerify: true})
			}
			conn = turn.NewSTUNConn(stream)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: address, TURNServerAddr: address, Conn: conn,
		Username: c.Username, Password: c.Password, LoggerFactory: logging.NewDefaultLoggerFactory(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		_ = conn.Close()
	})
	return client
}

func allocate(t testing.TB, c *turn.Client) net.PacketConn {
	t.Helper()
	relayed, err := c.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	return relayed
}

// echo is a peer that sends everything back.
func echo(t testing.TB) net.Addr {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buf[:n], from)
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		wait.Wait()
	})
	return conn.LocalAddr()
}

// TestRelay sends messages of all relevant lengths to a peer and back, first in indications and then on a channel.
func TestRelay(t *testing.T) {
	for _, transport := range []string{"UDP", "TCP", "TLS"} {
		t.Run(transport, func(t *testing.T) {
			server := start(t, testConfig(t))
			relayed := allocate(t, server.client(t, transport, issue(newSecret, time.Hour)))
			far, buf := echo(t), make([]byte, 2000)
			sizes := []int{5, 6, 7, 8, 100, 1200, 1500}
			for i := range 4 * len(sizes) {
				sent := strings.Repeat("x", sizes[i%len(sizes)])
				if _, err := relayed.WriteTo([]byte(sent), far); err != nil {
					t.Fatal(err)
				}
				if err := relayed.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
					t.Fatal(err)
				}
				n, from, err := relayed.ReadFrom(buf)
				if err != nil || string(buf[:n]) != sent || from.String() != far.String() {
					t.Fatalf("sent %d bytes, got %d from %v, %v", len(sent), n, from, err)
				}
			}
			if n := server.Allocations(); n != 1 {
				t.Errorf("%d allocations, want 1", n)
			}
			if err := server.Close(); err != nil {
				t.Fatal(err)
			}
			if err := server.ServePacket(nopPacketConn{}); err != ErrServerClosed {
				t.Errorf("ServePacket after Close returned %v", err)
			}
		})
	}
}

type nopPacketConn struct{ net.PacketConn }

func (nopPacketConn) Close() error { return nil }

func TestCredentials(t *testing.T) {
	server := start(t, testConfig(t))
	good := issue(newSecret, time.Hour)
	for _, tt := range []struct {
		name string
		c    credential.Credential
		ok   bool
	}{
		{"new secret", good, true},
		{"old secret", issue(oldSecret, time.Hour), true},
		{"old secret, other form", credential.Issuer{Secret: oldSecret, TTL: time.Hour}.IssueFor("bob", time.Now()), true},
		{"static user", credential.Credential{Username: "alice", Password: "wonderland"}, true},
		{"wrong password", credential.Credential{Username: "alice", Password: "looking glass"}, false},
		{"unknown user", credential.Credential{Username: "mallory", Password: "wonderland"}, false},
		{"other secret", issue(credential.NewSecret([]byte("guessed")), time.Hour), false},
		{"expired", issue(newSecret, -time.Second), false},
		{"expires too late", issue(newSecret, 49*time.Hour), false},
		{"changed user name", credential.Credential{Username: good.Username + "0", Password: good.Password}, false},
	} {
		for _, transport := range []string{"UDP", "TCP"} {
			_, err := server.client(t, transport, tt.c).Allocate()
			if (err == nil) != tt.ok {
				t.Errorf("%s over %s: got %v", tt.name, transport, err)
			}
		}
	}
}

// TestRealm checks that the key of another realm is not looked up.
func TestRealm(t *testing.T) {
	server, err := New(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	client := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	if _, ok := server.authenticate("alice", testRealm, client); !ok {
		t.Error("a user is refused")
	}
	if _, ok := server.authenticate("alice", "example.com", client); ok {
		t.Error("another realm is accepted")
	}
}

// TestPeers checks that the policy is applied to each permission and again to each packet, because of its port and of later changes
// of the policy.
func TestPeers(t *testing.T) {
	config := testConfig(t)
	server := start(t, config)
	client := server.client(t, "UDP", issue(newSecret, time.Hour))
	allocate(t, client)
	if err := client.CreatePermission(&net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5000}); err == nil {
		t.Error("a permission for a private address was given")
	}
	server.mu.Lock()
	var socket *relayed
	for r := range server.relayed {
		socket = r
	}
	server.mu.Unlock()
	far := echo(t)
	if _, err := socket.WriteTo([]byte("hello"), far); err != nil {
		t.Errorf("a packet to a good peer: %v", err)
	}
	if _, err := socket.WriteTo([]byte("hello"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53}); !errors.Is(err, errRefusedPeer) {
		t.Errorf("a packet to the port of a reflector: %v", err)
	}
	config.Relay.SetPeers(peer.New(peer.Rules{}))
	if _, err := socket.WriteTo([]byte("hello"), far); !errors.Is(err, errRefusedPeer) {
		t.Errorf("a packet to a peer that was refused since: %v", err)
	}
}
