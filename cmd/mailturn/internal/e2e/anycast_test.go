package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// anycast is an address that two relays in different networks have.
const anycast = "192.0.2.1"

// TestAnycast has two relays with one address and one secret. When the network sends a client of the first to the second, that one
// answers its next request with 437 at once, so that the client knows that its allocation is gone, and allocates again.
func TestAnycast(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	second := namespace(string(n.server) + "2")
	if out, err := exec.Command("ip", "netns", "add", string(second)).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add: %v\n%s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", string(second)).Run() })
	const secondIPv4, alsoClientIPv4 = "203.0.113.1", "203.0.113.2"
	second.ip(t, "link", "set", "lo", "up")
	second.ip(t, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1", "netns", string(n.client))
	second.ip(t, "addr", "add", secondIPv4+"/24", "dev", "eth0")
	second.ip(t, "link", "set", "eth0", "up")
	n.client.ip(t, "addr", "add", alsoClientIPv4+"/24", "dev", "eth1")
	n.client.ip(t, "link", "set", "eth1", "up")
	second.ip(t, "route", "add", "198.51.100.0/24", "via", alsoClientIPv4)
	second.completeChecksums(t, "eth0")
	for ns, ip := range map[namespace]string{n.server: serverIPv4, second: secondIPv4} {
		ns.ip(t, "addr", "add", anycast+"/32", "dev", "lo")
		path := filepath.Join(t.TempDir(), "maddy.conf")
		text := fmt.Sprintf("endpoint \"turn\" \"turn\" {\n  listen = \"udp://%s:3478\"\n  realm = \"example.org\"\n  secret = %q\n  relay_ip = %q\n}\n", anycast, secret, ip)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		startCommand(t, ns.command(binary, "run", "--state-dir", t.TempDir(), "--config", path))
	}

	n.client.ip(t, "route", "add", anycast, "via", serverIPv4)
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	var conn net.Conn
	var err error
	n.client.do(t, func() { conn, err = net.Dial("udp", anycast+":3478") })
	must(t, err)
	issued := minted(anycast)
	client := turnclient.New(turnclient.Config{Conn: conn, Username: issued.username, Password: issued.password})
	defer client.Close()
	_, err = client.Challenge(ctx)
	must(t, err)
	allocated, err := client.Allocate(ctx)
	must(t, err)
	if got := allocated.Relayed.Addr().String(); got != serverIPv4 {
		t.Fatalf("the first relay gives an address of %s", got)
	}
	_, err = client.Refresh(ctx, time.Minute)
	must(t, err)

	n.client.ip(t, "route", "replace", anycast, "via", secondIPv4, "dev", "eth1")
	moved := time.Now()
	_, err = client.Refresh(ctx, time.Minute)
	took := time.Since(moved)
	if turnclient.Code(err) != stun.CodeAllocationMismatch {
		t.Fatalf("the second relay answers %v, want 437", err)
	}
	t.Logf("437 after %v", took.Round(time.Millisecond))
	allocated, err = client.Allocate(ctx)
	must(t, err)
	if got := allocated.Relayed.Addr().String(); got != secondIPv4 {
		t.Errorf("the second relay gives an address of %s", got)
	}
}
