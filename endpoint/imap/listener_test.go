package imap

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/imap/upstream"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

func TestConnectionLimits(t *testing.T) {
	config := testConfig(t)
	config.MaxConnections = 3
	config.MaxUnauthenticated = 2
	e := start(t, config)

	refused := func(reason string) {
		t.Helper()
		w := newWire(t, tls.Client(dialTCP(t, e, 0), clientTLS(t, e)))
		w.expect(`\* BYE \[LIMIT\] ` + reason)
		w.expectEnd()
		w = newWire(t, dialTCP(t, e, 1))
		w.expect(`\* BYE \[LIMIT\] ` + reason)
		w.expectEnd()
	}
	first, second := dialTLS(t, e), dialPlain(t, e)
	refused("Too many connections from your address")
	first.login() // and no longer counts as unauthenticated
	third := dialPlain(t, e)
	refused("Too many connections: try again")
	third.send("a LOGOUT\r\n")
	third.until("a")
	third.conn.Close()
	waitFor(t, e, func() bool { return e.connections == 2 })
	dialPlain(t, e).expectAlive()
	second.send("a NOOP\r\n")
	second.expect(`a OK`)
}

// TestNetworkLimit checks that many addresses of one network do not evade the limit of each.
func TestNetworkLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t)
		config.MaxUnauthenticated = 2
		config.MaxUnauthenticatedNetwork.V = 3
		for _, network := range []struct{ near, far string }{
			{"192.0.2.%d", "192.0.3.%d"},
			{"2001:db8:1:%d::1", "2001:db8:2:%d::1"},
		} {
			e := startPipes(t, config)
			dial := func(format string, n int) *wire {
				return dialPipe(t, e, netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf(format, n)), 4711), false)
			}
			first := dial(network.near, 1)
			first.expect(`\* OK`)
			for n := 2; n <= 3; n++ {
				dial(network.near, n).expect(`\* OK`)
			}
			refused := dial(network.near, 4)
			refused.expect(`\* BYE \[LIMIT\] Too many connections from your network`)
			refused.expectEnd()
			dial(network.far, 4).expect(`\* OK`)
			first.conn.Close()
			synctest.Wait()
			dial(network.near, 4).expect(`\* OK`)
		}
	})
}

// TestTurnedAwayInCrowds checks that clients on a plain port are sent BYE even if no more clients can be refused over TLS.
func TestTurnedAwayInCrowds(t *testing.T) {
	config := testConfig(t)
	config.MaxConnections = 1
	e := start(t, config)
	dialPlain(t, e)
	for range maxRejecting { // clients that do not begin their handshake
		newWire(t, dialTCP(t, e, 0))
	}
	for deadline := time.Now().Add(10 * time.Second); len(e.rejecting) < maxRejecting; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d are being refused, want %d", len(e.rejecting), maxRejecting)
		}
	}
	for range 5 {
		w := newWire(t, dialTCP(t, e, 1))
		w.expect(`\* BYE \[LIMIT\] Too many connections: try again`)
		w.expectEnd()
	}
}

// waitFor waits until a condition on the endpoint's counts holds.
func waitFor(t *testing.T, e *Endpoint, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		e.mu.Lock()
		met := condition()
		e.mu.Unlock()
		if met {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("condition is not met")
}

func TestLimitedNetworks(t *testing.T) {
	for _, tt := range []struct{ addr, address, network string }{
		{"192.0.2.7", "192.0.2.7/32", "192.0.2.0/24"},
		{"2001:db8:1:2:3::4", "2001:db8:1:2::/64", "2001:db8:1::/48"},
	} {
		address, network := limit.Host(netip.MustParseAddr(tt.addr)), limit.Network(netip.MustParseAddr(tt.addr))
		if address.String() != tt.address || network.String() != tt.network {
			t.Errorf("%s: got %v and %v, want %s and %s", tt.addr, address, network, tt.address, tt.network)
		}
	}
}

func TestStartErrors(t *testing.T) {
	taken := listenTCP(t)
	port := uint16(taken.Addr().(*net.TCPAddr).Port)
	config := testConfig(t)
	config.Listen = append(config.Listen, listen.Addr{Scheme: "tcp", Host: "127.0.0.1", Port: port})
	place := hcl.Range{Filename: "maddy.conf", Start: hcl.Pos{Line: 14}}
	config.ListenRanges = []hcl.Range{place, place, place}
	e, err := New(config, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	err = e.Start(t.Context())
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("got %v, want EADDRINUSE", err)
	}
	for _, want := range []string{"tcp://127.0.0.1:" + strconv.Itoa(int(port)), "maddy.conf:14", "another program"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got the error %q, want %q in it", err, want)
		}
	}
	config = testConfig(t)
	config.Upstream = &upstream.Config{Addresses: []upstream.Address{{Scheme: "tls", Address: "127.0.0.1:993"}}, CAFile: "testdata/absent.pem"}
	if e, err = New(config, testLogger(t)); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "absent.pem") {
		t.Errorf("CA file: got %v", err)
	}

	config = testConfig(t)
	config.TLS[0].Key = "testdata/absent.pem"
	if _, err := New(config, testLogger(t)); err == nil || !strings.Contains(err.Error(), "absent.pem") {
		t.Errorf("key file: got %v", err)
	}
}

// expectAlive checks that the session answers.
func (w *wire) expectAlive() {
	w.t.Helper()
	w.send("n NOOP\r\n")
	w.expect(`n OK`)
}
