package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
)

// startAuto starts a relay in the network with lines in its endpoint.
func (n network) startAuto(t *testing.T, lines string) *server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "maddy.conf")
	text := fmt.Sprintf(`
endpoint "turn" "turn" {
  listen   = "udp://*:3478"
  realm    = "example.org"
  secret   = %q
  relay_ip = "auto"
  %s
}
endpoint "http" "http" {
}
`, secret, lines)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return startCommand(t, n.server.command(binary, "run", "--state-dir", t.TempDir(), "--config", path))
}

// ip runs ip(8) in the namespace.
func (ns namespace) ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := ns.command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRelayAddressFollows changes the address of a machine while a call lasts, as a provider does, takes its interface down and up, and
// gives it an IPv6 address. New calls get the new addresses without a restart, and the call goes on.
func TestRelayAddressFollows(t *testing.T) {
	t.Parallel()
	const former, latest, late = "9.0.0.1", "9.0.0.2", "2a00:9::1"
	n := newNetwork(t)
	n.server.ip(t, "-6", "addr", "flush", "dev", "eth0")
	n.server.ip(t, "addr", "add", former+"/32", "dev", "eth0")
	n.server.ip(t, "route", "add", "default", "via", clientIPv4, "src", former)
	n.client.ip(t, "route", "add", "9.0.0.0/24", "via", serverIPv4)

	s := n.startAuto(t, "peers {\n    allow = [\"198.51.100.0/24\"]\n  }")
	if line := s.waitFor(t, s.stderr, "relay address found"); !strings.Contains(line, "relay_ip="+former+" source=interface") {
		t.Errorf("the log says %q", line)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	call := func(want string) (c *turnclient.Client, relayed netip.AddrPort) {
		t.Helper()
		var conn net.Conn
		n.client.do(t, func() { conn, _ = net.Dial("udp", serverIPv4+":3478") })
		issued := minted(serverIPv4)
		c = turnclient.New(turnclient.Config{Conn: conn, Username: issued.username, Password: issued.password})
		t.Cleanup(func() { c.Close() })
		if _, err := c.Challenge(ctx); err != nil {
			t.Fatal(err)
		}
		allocation, err := c.Allocate(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got := allocation.Relayed.Addr().String(); got != want {
			t.Errorf("a new call has the relayed address %s, want %s", got, want)
		}
		return c, allocation.Relayed
	}
	// hears checks that what a peer sends to a relayed address arrives.
	hears := func(c *turnclient.Client, relayed netip.AddrPort) {
		t.Helper()
		heard := make(chan turnclient.Data, 100)
		c.Handle(func(d turnclient.Data) { heard <- d })
		if err := c.CreatePermission(ctx, netip.MustParseAddr(clientIPv4)); err != nil {
			t.Fatal(err)
		}
		var peer net.PacketConn
		var err error
		n.client.do(t, func() { peer, err = net.ListenPacket("udp", clientIPv4+":0") })
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		if _, err := peer.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(relayed)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-heard:
		case <-ctx.Done():
			t.Fatalf("%v relays nothing from a peer", relayed)
		}
	}
	running, relayed := call(former)
	n.client.ip(t, "link", "set", "eth0", "down")
	n.server.ip(t, "link", "set", "eth0", "down")
	n.server.ip(t, "link", "set", "eth0", "up")
	n.client.ip(t, "link", "set", "eth0", "up")
	n.server.ip(t, "route", "replace", "default", "via", clientIPv4, "src", former)
	n.client.ip(t, "route", "replace", "9.0.0.0/24", "via", serverIPv4)
	if strings.Contains(s.stderr.String(), "relay address changed") {
		t.Error("the address changed, although only the interface was down")
	}

	n.server.ip(t, "addr", "add", latest+"/32", "dev", "eth0")
	n.server.ip(t, "route", "replace", "default", "via", clientIPv4, "src", latest)
	line := s.waitFor(t, s.stderr, "relay address changed")
	if !strings.Contains(line, "relay_ip="+latest) || !strings.Contains(line, "former="+former) || !strings.Contains(line, "source=interface") {
		t.Errorf("the log says %q", line)
	}
	hears(running, relayed) // while the machine still has its address
	next, relayed := call(latest)
	n.server.ip(t, "addr", "delete", former+"/32", "dev", "eth0")
	if _, err := running.Refresh(ctx, 0); err != nil {
		t.Errorf("the call that lost its address: %v", err)
	}
	hears(next, relayed)

	n.server.ip(t, "addr", "add", late+"/64", "dev", "eth0", "nodad")
	n.server.ip(t, "-6", "route", "add", "default", "via", "2a00:9::2")
	if line := s.waitFor(t, s.stderr, "relay address added"); !strings.Contains(line, "relay_ip="+late) {
		t.Errorf("the log says %q", line)
	}
	metrics, err := n.server.command(peer(t, "curl", "curl"), "--silent", "--fail", "http://127.0.0.1:8080/metrics").Output()
	if err != nil || !strings.Contains(string(metrics), `mailturn_turn_relay_address_changes_total{endpoint="turn"} 2`) {
		t.Errorf("%v; the metrics have no 2 changes:\n%s", err, metrics)
	}
}

// TestRelayAddressFromElsewhere gets the address from a STUN server, which sees an address that is not public, and from a cloud. If the
// only address that can be found is behind a carrier's NAT, a warning must say so.
func TestRelayAddressFromElsewhere(t *testing.T) {
	t.Parallel()
	const cloud = "9.9.9.9"
	n := newNetwork(t)
	n.server.ip(t, "-6", "addr", "flush", "dev", "eth0")
	n.server.ip(t, "addr", "add", "100.64.0.7/32", "dev", "eth0")
	n.server.ip(t, "route", "add", "default", "via", clientIPv4, "src", "100.64.0.7")
	n.client.ip(t, "route", "add", "100.64.0.7/32", "via", serverIPv4)
	n.client.ip(t, "addr", "add", "169.254.169.254/32", "dev", "eth0")

	s := n.startAuto(t, "")
	if line := s.waitFor(t, s.stderr, "level=WARN"); !strings.Contains(line, "an address behind a carrier's NAT (RFC 6598)") {
		t.Errorf("the log says %q", line)
	}
	s.stop(t)

	var listener net.Listener
	var err error
	n.client.do(t, func() { listener, err = net.Listen("tcp", "169.254.169.254:80") })
	if err != nil {
		t.Fatal(err)
	}
	service := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hetzner/v1/metadata/public-ipv4" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintln(w, cloud)
	})}
	go service.Serve(listener)
	t.Cleanup(func() { service.Close() })
	stunConfig := filepath.Join(t.TempDir(), "maddy.conf")
	if err := os.WriteFile(stunConfig, fmt.Appendf(nil, "endpoint \"turn\" \"turn\" {\n  listen = \"udp://%s:3478\"\n  realm = \"example.org\"\n}\n", clientIPv4), 0o600); err != nil {
		t.Fatal(err)
	}
	startCommand(t, n.client.command(binary, "run", "--state-dir", t.TempDir(), "--config", stunConfig))

	for sources, want := range map[string]string{
		`["interface", "stun:` + clientIPv4 + `", "metadata"]`: "relay_ip=" + cloud + " source=metadata",
		`["stun:` + clientIPv4 + `"]`:                          "relay_ip=" + serverIPv4 + " source=stun:" + clientIPv4 + ":3478",
	} {
		s := n.startAuto(t, "relay_ip_from = "+sources)
		if line := s.waitFor(t, s.stderr, "relay address found"); !strings.Contains(line, want) {
			t.Errorf("%s: the log says %q, want %s", sources, line, want)
		}
		s.stop(t)
	}
}
