package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// callNetwork is one relay and two users, each on a machine of its own as far as the kernel is concerned:
//
//	alice 10.75.1.2 ── 10.75.1.1 relay 10.75.2.1 ── 10.75.2.2 bob
//	      fd75:1::2 ── fd75:1::1       fd75:2::1 ── fd75:2::2
//
// The relay listens on 10.75.0.1 and fd75::1, which have names in the users' hosts files. It forwards nothing: what gets
// from one user to the other was relayed by mailturn.
type callNetwork struct {
	alice, relay, bob namespace
}

// Addresses of the relay's machine, and names for them.
const (
	relayIPv4  = "10.75.0.1"
	relayIPv6  = "fd75::1"
	relayName  = "turn.mailturn.test"
	relayName6 = "turn6.mailturn.test"
	otherName  = "other.mailturn.test" // in no certificate
)

// hostsFile and resolverFile replace those of /etc. There is no DNS server, and queries fail immediately.
const (
	hostsFile = "127.0.0.1 localhost\n::1 localhost\n" +
		relayIPv4 + " " + relayName + "\n" + relayIPv6 + " " + relayName6 + "\n" + relayIPv4 + " " + otherName + "\n"
	resolverFile = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
)

// newCallNetwork makes the namespaces, for which it needs root; they are gone when the test ends.
func newCallNetwork(t *testing.T) callNetwork {
	t.Helper()
	ip := peer(t, "ip", "iproute2")
	needRoot(t, "a network namespace")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}

	prefix := fmt.Sprintf("mt%d-%d", os.Getpid(), networks.Add(1))
	n := callNetwork{alice: namespace(prefix + "-alice"), relay: namespace(prefix + "-relay"), bob: namespace(prefix + "-bob")}
	for _, ns := range []namespace{n.alice, n.relay, n.bob} {
		run("netns", "add", string(ns))
		etc := filepath.Join("/etc/netns", string(ns)) // what ip netns exec puts over /etc
		t.Cleanup(func() {
			run("netns", "delete", string(ns))
			os.RemoveAll(etc)
			os.Remove(filepath.Dir(etc)) // unless there are others
		})
		if err := os.MkdirAll(etc, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"hosts": hostsFile, "resolv.conf": resolverFile} {
			if err := os.WriteFile(filepath.Join(etc, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		run("-n", string(ns), "link", "set", "lo", "up")
		// Without duplicate address detection no address is tentative for its first second.
		run("netns", "exec", string(ns), "sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad")
	}
	for _, address := range []string{relayIPv4, relayIPv6} {
		run("-n", string(n.relay), "address", "add", address, "dev", "lo")
	}
	for i, user := range []namespace{n.alice, n.bob} {
		link, net4, net6 := []string{"alice", "bob"}[i], fmt.Sprintf("10.75.%d.", i+1), fmt.Sprintf("fd75:%d::", i+1)
		run("-n", string(n.relay), "link", "add", link, "type", "veth", "peer", "name", "uplink", "netns", string(user))
		run("-n", string(n.relay), "address", "add", net4+"1/24", "dev", link)
		run("-n", string(n.relay), "address", "add", net6+"1/64", "dev", link)
		run("-n", string(n.relay), "link", "set", link, "up")
		run("-n", string(user), "address", "add", net4+"2/24", "dev", "uplink")
		run("-n", string(user), "address", "add", net6+"2/64", "dev", "uplink")
		run("-n", string(user), "link", "set", "uplink", "up")
		run("-n", string(user), "route", "add", "default", "via", net4+"1")
		run("-n", string(user), "-6", "route", "add", "default", "via", net6+"1")
		n.relay.completeChecksums(t, link)
		user.completeChecksums(t, "uplink")
	}
	for _, user := range []namespace{n.alice, n.bob} {
		user.waitForCarrier(t, "uplink")
	}
	return n
}

// waitForCarrier waits until the kernel has noticed that both ends of a link are up, which takes up to a second.
// Its IPv6 address cannot be bound before.
func (ns namespace) waitForCarrier(t *testing.T, link string) {
	t.Helper()
	for deadline := time.Now().Add(startLimit); ; time.Sleep(20 * time.Millisecond) {
		out, err := exec.Command("ip", "-n", string(ns), "link", "show", link).CombinedOutput()
		if err != nil {
			t.Fatalf("ip link show: %v: %s", err, out)
		}
		if bytes.Contains(out, []byte("state UP")) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the link of %s is not up after %v: %s", ns, startLimit, out)
		}
	}
}

// dial connects from the namespace to an IP address and port.
func (ns namespace) dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	ns.do(t, func() { conn, err = net.Dial(network, address) })
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// listen listens on a port of the namespace's loopback.
func (ns namespace) listen(t *testing.T) net.Listener {
	t.Helper()
	var ln net.Listener
	var err error
	ns.do(t, func() { ln, err = net.Listen("tcp", "127.0.0.1:0") })
	if err != nil {
		t.Fatal(err)
	}
	return ln
}
