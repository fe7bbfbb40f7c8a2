package turnsrv

import (
	"context"
	"crypto/tls"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

func credentialOf(name string) credential.Credential {
	secret := credential.NewSecret([]byte(turntest.TestSecret))
	return credential.Issuer{Secret: secret, TTL: time.Hour}.IssueFor(name, time.Now())
}

// TestSessions checks the descriptions of allocations over every transport, and that Disconnect ends only those that match.
func TestSessions(t *testing.T) {
	server := startServer(t, testConfig(t))
	peer := udp.AddrPortOf(echo(t))
	clients := make(map[string]*rawClient)
	relayed := make(map[string]netip.AddrPort)
	secure, err := tls.Dial("tcp", server.tls.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, client := range map[string]*rawClient{
		"alice": dial(t, "udp", server.udp), "bob": dial(t, "tcp", server.tcp), "carol": newRawClient(t, secure, true),
	} {
		client.use(credentialOf(name))
		clients[name], relayed[name] = client, client.allocate()
		client.want(client.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer)), 0)
		client.write(turntest.ChannelData(0x4000, "ping "+name+" ..."))
		client.read()
	}
	sessions, err := server.Sessions(t.Context())
	if err != nil || len(sessions) != 3 {
		t.Fatalf("got %+v, %v, want three sessions", sessions, err)
	}
	for _, s := range sessions {
		name := s.Subject.Name
		size := uint64(len("ping " + name + " ..."))
		want := event.Allocation{
			Tuple: s.Tuple, Username: clients[name].credential.Username, Subject: s.Subject, Relayed: relayed[name],
			Made: s.Made, Expires: s.Expires, Peers: 1, Channels: 1,
			ToPeer: event.Traffic{Packets: 1, Bytes: size}, ToClient: event.Traffic{Packets: 1, Bytes: size},
		}
		want.Tuple.Client = udp.AddrPortOf(clients[name].conn.LocalAddr())
		if diff := cmp.Diff(want, s, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("%s: differs from what is wanted:\n%s", name, diff)
		}
		if age := time.Since(s.Made); age < 0 || age > time.Minute || s.Expires.Sub(s.Made).Round(time.Second) != DefaultLifetime {
			t.Errorf("%s: made at %v, expires at %v", name, s.Made, s.Expires)
		}
	}

	ended, err := server.Disconnect(t.Context(), func(a event.Allocation) bool { return a.Subject.Name != "alice" })
	if err != nil || len(ended) != 2 {
		t.Errorf("got %+v, %v, want the sessions of bob and carol", ended, err)
	}
	clients["bob"].want(clients["bob"].request(stun.MethodRefresh), 437)
	clients["carol"].want(clients["carol"].request(stun.MethodRefresh), 437)
	clients["alice"].want(clients["alice"].request(stun.MethodRefresh), 0)
	if n := server.Counters().AllocationsEnded[event.EndedByOperator]; n != 2 {
		t.Errorf("%d ends were counted, want 2", n)
	}
	clients["bob"].allocate() // nothing forbids it

	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if sessions, err := server.Sessions(t.Context()); err != nil || len(sessions) > 0 {
		t.Errorf("after Close: got %+v, %v", sessions, err)
	}
}

// TestDisconnectDual checks that both relayed addresses of an allocation end if one of them matches.
func TestDisconnectDual(t *testing.T) {
	c, server := udpClient(t, familiesConfig(t, turntest.Address4, turntest.Address6))
	first := c.allocate(turntest.Additional)
	ended, err := server.Disconnect(t.Context(), func(a event.Allocation) bool { return a.Relayed == first })
	if err != nil || len(ended) != 2 || server.Allocations() != 0 {
		t.Errorf("got %+v, %v, and %d are left; want both to end", ended, err, server.Allocations())
	}
}

// TestSessionsMeanwhile calls Sessions while clients come and go and the server closes. Each call must return.
func TestSessionsMeanwhile(t *testing.T) {
	server := startServer(t, testConfig(t))
	stop := make(chan struct{})
	var asking, coming sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				if _, err := server.Sessions(ctx); err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	for i := range 6 {
		network, to := "udp", server.udp
		if i%2 == 1 {
			network, to = "tcp", server.tcp
		}
		client := dial(t, network, to)
		coming.Go(func() {
			for range 30 {
				client.allocate()
				client.want(client.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
			}
			client.allocate()
		})
	}
	coming.Wait()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	close(stop)
	asking.Wait()
}

// TestSetDraining checks that new allocations are refused with 508 until draining ends, and that the existing one remains.
func TestSetDraining(t *testing.T) {
	c, server := udpClient(t, testConfig(t))
	c.allocate()
	server.SetDraining(true)
	c.want(c.request(stun.MethodRefresh), 0)
	other := dial(t, "udp", server.udp)
	other.want(other.request(stun.MethodAllocate, turntest.TransportUDP), 508)
	server.SetDraining(false)
	other.allocate()
}
