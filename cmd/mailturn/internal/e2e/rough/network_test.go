package rough

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Addresses of the relay. They are of the blocks for documentation, which look public to programs.
const (
	relayIPv4 = "198.51.100.1"
	relayIPv6 = "2001:db8::1"
	// relayNAT64 is relayIPv4 as DNS64 would give it to a client without IPv4 (RFC 6052 section 2.2), in a prefix of the network:
	// tayga drops packets from 64:ff9b::/96 to addresses for documentation.
	relayNAT64 = "2001:db8:64::c633:6401"
)

// namespace is a network namespace of Linux: a machine as far as the network is concerned.
type namespace string

// network is the Internet between a relay and homes:
//
//	client 192.168.N.2 ── 192.168.N.1 router 203.0.113.8N+2 ── core ── 198.51.100.1 relay
//	    2001:db8:N::2 ── 2001:db8:N::1       2001:db8:100:N::2 ──      ── 2001:db8::1
//
// Each client has a router of its own, which translates IPv4 addresses, and on which the conditions of its row are made.
// Nothing but the relay can be reached from clients: core drops what goes from one home to another.
type network struct {
	prefix      string
	core, relay namespace
	homes       int
}

// newNetwork makes a network without homes, which requires root and is removed at the end of the test.
func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{prefix: fmt.Sprintf("rough%d-", os.Getpid())}
	n.core, n.relay = n.namespace(t, "core"), n.namespace(t, "relay")
	cable(t, n.core, "relay", []string{"198.51.100.254/24", "2001:db8::fe/64"}, n.relay, "eth0", []string{relayIPv4 + "/24", relayIPv6 + "/64"})
	ip(t, "-n", string(n.relay), "route", "add", "default", "via", "198.51.100.254")
	ip(t, "-n", string(n.relay), "route", "add", "default", "via", "2001:db8::fe")
	n.core.nft(t, `table inet homes {
  chain forward {
    type filter hook forward priority 0
    iifname "home*" oifname "home*" drop
  }
}
`)
	return n
}

// namespace makes a namespace that forwards packets between its links. It has no name server, so that lookups fail immediately.
func (n *network) namespace(t *testing.T, name string) namespace {
	t.Helper()
	ns := namespace(n.prefix + name)
	ip(t, "netns", "add", string(ns))
	etc := filepath.Join("/etc/netns", string(ns)) // what ip netns exec puts over /etc
	t.Cleanup(func() {
		ip(t, "netns", "delete", string(ns))
		os.RemoveAll(etc)
		os.Remove(filepath.Dir(etc)) // unless there are others
	})
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{"hosts": "127.0.0.1 localhost\n::1 localhost\n", "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"} {
		if err := os.WriteFile(filepath.Join(etc, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ip(t, "-n", string(ns), "link", "set", "lo", "up")
	// Without duplicate address detection no address is tentative for its first second.
	ns.run(t, "sh", "-c", "cd /proc/sys/net; echo 1 >ipv4/ip_forward; echo 1 >ipv6/conf/all/forwarding; echo 0 >ipv6/conf/default/accept_dad")
	return ns
}

// home is a client and its router.
type home struct {
	number         int
	client, router namespace
	outside        int // which of its outside addresses the router has
}

// newHome adds one. Without IPv4 the client has IPv6 alone.
func (n *network) newHome(t *testing.T, ipv4 bool) *home {
	t.Helper()
	n.homes++
	h := &home{number: n.homes}
	h.client, h.router = n.namespace(t, fmt.Sprint("client", h.number)), n.namespace(t, fmt.Sprint("router", h.number))
	cable(t,
		n.core, fmt.Sprint("home", h.number), []string{h.wan(1) + "/29", fmt.Sprintf("2001:db8:100:%d::1/64", h.number)},
		h.router, "wan", []string{h.address() + "/29", fmt.Sprintf("2001:db8:100:%d::2/64", h.number)})
	lan, inside := []string{fmt.Sprintf("2001:db8:%d::1/64", h.number)}, []string{fmt.Sprintf("2001:db8:%d::2/64", h.number)}
	if ipv4 {
		lan, inside = append(lan, fmt.Sprintf("192.168.%d.1/24", h.number)), append(inside, fmt.Sprintf("192.168.%d.2/24", h.number))
	}
	cable(t, h.router, "lan", lan, h.client, "eth0", inside)
	if ipv4 {
		ip(t, "-n", string(h.client), "route", "add", "default", "via", fmt.Sprintf("192.168.%d.1", h.number))
	}
	ip(t, "-n", string(h.client), "route", "add", "default", "via", fmt.Sprintf("2001:db8:%d::1", h.number))
	ip(t, "-n", string(h.router), "route", "add", "default", "via", h.wan(1))
	ip(t, "-n", string(h.router), "route", "add", "default", "via", fmt.Sprintf("2001:db8:100:%d::1", h.number))
	ip(t, "-n", string(n.core), "route", "add", fmt.Sprintf("2001:db8:%d::/64", h.number), "via", fmt.Sprintf("2001:db8:100:%d::2", h.number))
	h.router.nft(t, `table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    oifname "wan" masquerade
  }
}
`)
	return h
}

// wan is an address of the network between core and the router.
func (h *home) wan(host int) string { return fmt.Sprintf("203.0.113.%d", 8*h.number+host) }

// address is the outside address of the router, which the relay sees.
func (h *home) address() string { return h.addresses()[h.outside] }

// addresses are the two that the router has in turn.
func (h *home) addresses() [2]string { return [2]string{h.wan(2), h.wan(3)} }

// roam gives the router another outside address, as a provider does, and as it is for a phone that changes networks. The kernel
// forgets what was translated to the old one.
func (h *home) roam(t *testing.T) {
	t.Helper()
	old := h.address()
	h.outside = 1 - h.outside
	ip(t, "-n", string(h.router), "address", "del", old+"/29", "dev", "wan")
	ip(t, "-n", string(h.router), "address", "add", h.address()+"/29", "dev", "wan")
	ip(t, "-n", string(h.router), "route", "replace", "default", "via", h.wan(1))
}

// cable connects two namespaces.
func cable(t *testing.T, a namespace, nameA string, addressesA []string, b namespace, nameB string, addressesB []string) {
	t.Helper()
	ip(t, "-n", string(a), "link", "add", nameA, "type", "veth", "peer", "name", nameB, "netns", string(b))
	for _, end := range []struct {
		ns        namespace
		name      string
		addresses []string
	}{{a, nameA, addressesA}, {b, nameB, addressesB}} {
		for _, address := range end.addresses {
			args := []string{"-n", string(end.ns), "address", "add", address, "dev", end.name}
			if strings.Contains(address, ":") {
				args = append(args, "nodad")
			}
			ip(t, args...)
		}
		ip(t, "-n", string(end.ns), "link", "set", end.name, "up")
	}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// command runs a program in the namespace.
func (ns namespace) command(program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", string(ns), program}, args...)...)
}

// run is command, of which the output is returned.
func (ns namespace) run(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	out, err := ns.command(program, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

// do runs f, whose sockets are then of the namespace and stay so.
func (ns namespace) do(f func() error) error {
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		file, err := os.Open("/run/netns/" + string(ns))
		if err == nil {
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
			file.Close()
		}
		if err == nil {
			err = f()
		}
		failed <- err
	}()
	return <-failed
}

// nft adds rules to those of the namespace.
func (ns namespace) nft(t *testing.T, rules string) {
	t.Helper()
	cmd := ns.command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s%s", err, out, rules)
	}
}

// packets returns what the counter of this name in the namespace's rules has counted.
func (ns namespace) packets(t *testing.T, counter string) int {
	t.Helper()
	var answer struct {
		NFTables []struct {
			Counter *struct {
				Name    string
				Packets int
			}
		}
	}
	if err := json.Unmarshal(ns.run(t, "nft", "-j", "list", "counters"), &answer); err != nil {
		t.Error(err)
	}
	for _, entry := range answer.NFTables {
		if entry.Counter != nil && entry.Counter.Name == counter {
			return entry.Counter.Packets
		}
	}
	t.Errorf("%s has no counter %s", ns, counter)
	return 0
}
