package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/probe"
)

// home is a machine behind a router, with a client in the internet: the server of the network is the router.
type home struct {
	network
	machine namespace
}

// newHome connects the machine 192.168.1.20 to the router 192.168.1.1.
func newHome(t *testing.T) home {
	t.Helper()
	h := home{network: newNetwork(t)}
	h.machine = namespace(strings.TrimSuffix(string(h.server), "s") + "h")
	if out, err := exec.Command("ip", "netns", "add", string(h.machine)).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", string(h.machine)).Run() })
	h.server.ip(t, "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", string(h.machine))
	for _, end := range []struct {
		ns              namespace
		device, address string
	}{{h.server, "lan0", "192.168.1.1/24"}, {h.machine, "eth0", "192.168.1.20/24"}} {
		end.ns.ip(t, "addr", "add", end.address, "dev", end.device)
		end.ns.ip(t, "link", "set", end.device, "up")
		end.ns.completeChecksums(t, end.device)
	}
	h.machine.ip(t, "link", "set", "lo", "up")
	h.machine.ip(t, "route", "add", "default", "via", "192.168.1.1")
	if out, err := h.server.command("sysctl", "-qw", "net.ipv4.ip_forward=1").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return h
}

// router loads the documented rules, with the router's address.
func (h home) router(t *testing.T, rules string) {
	t.Helper()
	cmd := h.server.command(peer(t, "nft", "nftables"), "-f", "-")
	cmd.Stdin = strings.NewReader("flush ruleset\n" + strings.ReplaceAll(rules, "198.51.100.7", serverIPv4))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s%s", err, out, rules)
	}
}

// run starts a relay with the endpoint on the machine.
func (h home) run(t *testing.T, endpoint string) *server {
	t.Helper()
	config := filepath.Join(t.TempDir(), "maddy.conf")
	endpoint = strings.Replace(endpoint, "\n}", fmt.Sprintf("\n  secret = %q\n  realm = \"example.org\"\n  peers {\n    allow = [\"198.51.100.0/24\"] # of documentation\n  }\n}", secret), 1)
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(endpoint, "198.51.100.7", serverIPv4)), 0o600); err != nil {
		t.Fatal(err)
	}
	return startCommand(t, h.machine.command(binary, "run", "--state-dir", t.TempDir(), "--config", config))
}

// behindNAT runs the documented relay behind the documented router and probes it from outside, with relay_ip and without.
func behindNAT(t *testing.T, d documents, b recipe.Block) {
	rules := d.find(t, "docs/nat.md", "Forward the ports", "table ip")
	h := newHome(t)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	verdict := func() probe.Verdict {
		return runProbe(t, h.client, "", "--quick", "--secret-file", file, "turn:"+serverIPv4+"?transport=udp").Verdict
	}
	want := func(status probe.Status, text string) {
		t.Helper()
		if got := verdict(); got.Status != status || !strings.Contains(got.Text, text) {
			t.Errorf("the probe says %s: %s\nwant %s", got.Status, got.Text, text)
		}
	}
	h.router(t, rules.Text)
	s := h.run(t, b.Text)
	want(probe.OK, "A call would connect.")
	s.stop(t)
	h.run(t, without(t, without(t, b.Text, "relay_ip "), "relay_bind"))
	want(probe.Failure, "the relay gives out 192.168.1.20, a private address")
	worked(t, b, mailturnAlone, "relay behind a router, probed from outside", "without relay_ip")
}

// forwardPorts checks the rules of the router, which behindNAT uses, without the ports of calls.
func forwardPorts(t *testing.T, d documents, b recipe.Block) {
	h := newHome(t)
	h.router(t, replaced(t, b, ", 50000-50999", ""))
	h.run(t, d.find(t, "docs/nat.md", "A public address that stays the same", `endpoint "turn"`).Text)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	v := runProbe(t, h.client, "", "--quick", "--secret-file", file, "turn:"+serverIPv4+"?transport=udp").Verdict
	if v.Status != probe.Failure {
		t.Errorf("without the ports of calls, the probe says %s: %s", v.Status, v.Text)
	}
	worked(t, b, "nftables "+programVersion(t, peer(t, "nft", "nftables"), "--version"), "rules of a router, with which the relay behind it works", "without the ports of calls")
}
