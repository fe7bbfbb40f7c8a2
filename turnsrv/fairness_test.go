package turnsrv

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// testCalls are clients with one allocation each, whose peers send back what they receive.
type testCalls []*rawClient

func startCalls(t *testing.T, server *testServer, n int) testCalls {
	t.Helper()
	var calls testCalls
	for range n {
		c := dial(t, "udp", server.udp)
		c.allocate()
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(udp.AddrPortOf(echo(t)))), 0)
		calls = append(calls, c)
	}
	return calls
}

// exchange sends a packet in each call and waits for it to come back. If a packet is lost, it fails the test.
func (calls testCalls) exchange(t *testing.T, text string) {
	t.Helper()
	for i, c := range calls {
		c.write(turntest.ChannelData(0x4000, fmt.Sprint(text, i)))
	}
	for i, c := range calls {
		b, err := c.tryRead(patience())
		if err != nil {
			t.Fatalf("%s, call %d: the packet was lost: %v", text, i, err)
		}
		if _, data, err := stun.ParseChannelData(b); err != nil || string(data) != fmt.Sprint(text, i) {
			t.Fatalf("%s, call %d: %q came back, %v", text, i, data, err)
		}
	}
}

// fairnessConfig returns a configuration without the limits on a single client.
func fairnessConfig(t *testing.T) Config {
	config := testConfig(t)
	config.UnauthenticatedRate, config.MaxGuesses, config.SilentPeerBytes = -1, -1, -1
	return config
}

const (
	// attackRounds is the number of packets of a call, and attackBurst the number of packets of an attack that precede each. They
	// fit into the buffer of a socket, so that any lost packet was lost by the server.
	attackRounds = 25
	attackBurst  = 100
)

// TestCallsBesideAttacks checks that calls lose no packets while another client attacks the server.
func TestCallsBesideAttacks(t *testing.T) {
	for _, attack := range []struct {
		name    string
		prepare func(t *testing.T, server *testServer) (step func())
	}{
		{"peer", func(t *testing.T, server *testServer) func() {
			c := dial(t, "udp", server.udp)
			relayed := c.allocate()
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(udp.AddrPortOf(conn.LocalAddr()))), 0)
			return func() {
				for range attackBurst {
					if _, err := conn.WriteToUDPAddrPort(make([]byte, 160), relayed); err != nil {
						t.Fatal(err)
					}
				}
			}
		}},
		{"client", func(t *testing.T, server *testServer) func() {
			c := startCalls(t, server, 1)[0]
			return func() {
				for range attackBurst {
					c.write(turntest.ChannelData(0x4000, "flood"))
				}
			}
		}},
		{"forged signatures", func(t *testing.T, server *testServer) func() {
			c := dial(t, "udp", server.udp)
			c.challenge()
			c.key = make([]byte, len(c.key))
			return func() {
				for range attackBurst {
					c.write(c.message(stun.MethodRefresh, stun.ClassRequest, c.sign))
				}
			}
		}},
		{"allocations", func(t *testing.T, server *testServer) func() {
			return func() {
				for range 10 {
					c := dial(t, "udp", server.udp)
					c.allocate()
					c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
					_ = c.conn.Close()
				}
			}
		}},
		{"TLS hellos", func(t *testing.T, server *testServer) func() {
			near, far := net.Pipe()
			go func() { _ = tls.Client(near, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(t.Context()) }()
			hello := make([]byte, 4096)
			n, err := far.Read(hello)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = far.Close(), near.Close()
			return func() {
				for range 10 {
					conn, err := net.Dial("tcp", server.tls.String())
					if err != nil {
						t.Fatal(err)
					}
					if _, err := conn.Write(hello[:n]); err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = conn.Close() })
				}
			}
		}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			server := startServer(t, fairnessConfig(t))
			calls := startCalls(t, server, 20)
			step := attack.prepare(t, server)
			for i := range attackRounds {
				step()
				calls.exchange(t, fmt.Sprintf("round %d", i))
			}
		})
	}
}

// TestPeersThatAreGone sends to a peer whose host refuses the packets (ICMP) and to one that answers, from the same relayed
// address. The errors must not cause losses.
func TestPeersThatAreGone(t *testing.T) {
	server := startServer(t, fairnessConfig(t))
	calls := startCalls(t, server, 1)
	gone, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	c := calls[0]
	c.skipICMP = true
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4001), turntest.PeerAddr(udp.AddrPortOf(gone.LocalAddr()))), 0)
	_ = gone.Close()
	for i := range 200 {
		c.write(turntest.ChannelData(0x4001, "is anybody there?"))
		calls.exchange(t, fmt.Sprintf("round %d", i))
	}
}

// TestReloadAndDrainUnderLoad replaces limits and policies during calls and a flood, and then drains the server. New allocations
// are refused, and the calls lose no packets until they end.
func TestReloadAndDrainUnderLoad(t *testing.T) {
	if onPlainPion() {
		t.Skip("pion/turn cannot drain")
	}
	config := fairnessConfig(t)
	server := startServer(t, config)
	calls := startCalls(t, server, 20)
	flood := startCalls(t, server, 1)[0]
	round := func(i int) {
		for range attackBurst {
			flood.write(turntest.ChannelData(0x4000, "flood"))
		}
		calls.exchange(t, fmt.Sprintf("round %d", i))
	}
	for i := range 100 {
		server.SetQuotas(limit.Quotas{MaxPermissions: 10 + i, MaxChannels: 10 + i})
		config.Relay.SetPeers(peer.New(peer.Rules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}))
		round(i)
	}
	drained := make(chan error, 1)
	go func() { drained <- server.Shutdown(context.Background()) }()
	late := dial(t, "udp", server.udp)
	for refused := false; !refused; { // Shutdown may not have begun
		a := late.request(stun.MethodAllocate, turntest.TransportUDP)
		if refused = a.code == stun.CodeInsufficientCapacity; !refused {
			late.want(a, 0)
			late.want(late.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
		}
	}
	for i := range 20 {
		round(100 + i)
	}
	for _, c := range append(calls, flood) {
		c.write(c.message(stun.MethodRefresh, stun.ClassRequest, turntest.Lifetime(0), c.sign))
	}
	if err := <-drained; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	if got := server.Counters().AllocationsEnded[event.EndedServer]; got != 0 {
		t.Errorf("%d allocations were cut", got)
	}
}
