package turn

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/module/moduletest"
	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

func loopback(listens ...listen.Addr) Config {
	return Config{
		Name: "turn", Listen: listens, ListenRanges: make([]hcl.Range, len(listens)), Realm: "example.org",
		Secrets:  []credential.Secret{credential.NewSecret([]byte("correct horse battery staple"))},
		Settings: Settings{RelayPorts: config.Value[PortRange]{V: PortRange{49152, 65535}}},
	}
}

// TestStartNamesThePortInUse checks that the error names the address and says what to do, and that nothing is left running.
func TestStartNamesThePortInUse(t *testing.T) {
	for _, scheme := range []string{"udp", "tcp"} {
		t.Run(scheme, func(t *testing.T) {
			taken, port := take(t, scheme)
			defer taken()
			free := listen.Addr{Scheme: "udp", Host: "127.0.0.1"}
			busy := listen.Addr{Scheme: scheme, Host: "127.0.0.1", Port: port}
			c := loopback(free, busy)
			c.ListenRanges[1] = hcl.Range{Filename: "maddy.conf", Start: hcl.Pos{Line: 7}}
			e, err := New(c, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			err = e.Start(t.Context())
			if err == nil || !strings.Contains(err.Error(), busy.String()+" (maddy.conf:7)") || !strings.Contains(err.Error(), "in use") {
				t.Errorf("got %v, want an error that names %v", err, busy)
			}
			if len(e.sockets) != 0 {
				t.Errorf("%d sockets are left open", len(e.sockets))
			}
			if err := e.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown after a failed Start: %v", err)
			}
		})
	}
}

// TestStartWithoutTheAddressToBind checks that a mistake in relay_bind is an error of Start, and not a 508 for every client.
func TestStartWithoutTheAddressToBind(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
	c.RelayIP = []netip.Addr{netip.MustParseAddr("203.0.113.9")}
	c.RelayBind = c.RelayIP
	e, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "relay_bind") || !strings.Contains(err.Error(), "does not have the address") {
		t.Errorf("got %v, want an error that says what relay_bind has to be", err)
		e.Shutdown(t.Context())
	}
}

// take binds a port of loopback.
func take(t *testing.T, scheme string) (release func() error, port uint16) {
	t.Helper()
	if scheme == "udp" {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return conn.Close, conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener.Close, listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

func TestStartAndShutdown(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"}, listen.Addr{Scheme: "tcp", Host: "127.0.0.1"})
	c.DrainTimeout = time.Minute
	e, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown of an idle endpoint: %v", err)
	}
}

func TestBindFor(t *testing.T) {
	addr := netip.MustParseAddr
	local := []netip.Addr{addr("198.51.100.7"), addr("10.0.0.7"), addr("2001:db8::7")}
	for _, tt := range []struct {
		advertised string
		configured []netip.Addr
		want       string
	}{
		{"198.51.100.7", nil, "198.51.100.7"},
		{"203.0.113.9", nil, "0.0.0.0"},
		{"203.0.113.9", []netip.Addr{addr("10.0.0.7")}, "10.0.0.7"},
		{"2001:db8::7", []netip.Addr{addr("10.0.0.7")}, "2001:db8::7"},
		{"2001:db8::9", []netip.Addr{addr("10.0.0.7")}, "::"},
	} {
		if got := bindFor(addr(tt.advertised), tt.configured, local); got != addr(tt.want) {
			t.Errorf("relay_ip %s with relay_bind %v: got %v, want %s", tt.advertised, tt.configured, got, tt.want)
		}
	}
}

func TestRelayAddressesFollowTheListeningAddress(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1", Port: 3478}, listen.Addr{Scheme: "tls", Host: "::1", Port: 5349})
	got, err := relayAddresses(c, c.configured())
	if err != nil {
		t.Fatal(err)
	}
	if want := "[{127.0.0.1 127.0.0.1} {::1 ::1}]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestWildcardRelayAddressIsThisMachines checks that an endpoint on all addresses advertises an address of this machine.
func TestWildcardRelayAddressIsThisMachines(t *testing.T) {
	local, err := peer.LocalAddrs()
	if err != nil {
		t.Fatal(err)
	}
	c := loopback(listen.Addr{Scheme: "udp", Port: 3478})
	found, err := c.finder().Find(t.Context(), true)
	if err != nil {
		return // a machine without a network
	}
	got, err := relayAddresses(c, addrsOf(found))
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range got {
		if !slices.Contains(local, address.Advertise) {
			t.Errorf("%v is not an address of this machine, which has %v", address.Advertise, local)
		}
	}
}

// TestCounters checks that a refused request is counted.
func TestCounters(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
	e, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := e.Counters(); ok {
		t.Error("Counters returns true before Start")
	}
	e = moduletest.Start(t, New, c)
	conn, err := net.Dial("udp", e.sockets[0].Packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var b stun.Builder
	b.Start(stun.MethodAllocate, stun.ClassRequest, stun.TransactionID{1})
	if _, err := conn.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	got, ok := e.Counters()
	if n := got.Errors[turnsrv.ErrorResponse{Method: stun.MethodAllocate, Code: stun.CodeUnauthenticated}]; !ok || n != 1 {
		t.Errorf("%d answers with 401 were counted, want 1", n)
	}
}
