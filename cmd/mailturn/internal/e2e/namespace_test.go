package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// Addresses of the two ends of a network. They are of the blocks for documentation, which look public to programs.
const (
	serverIPv4 = "198.51.100.1"
	serverIPv6 = "2001:db8::1"
	clientIPv4 = "198.51.100.2"
	clientIPv6 = "2001:db8::2"
	// otherIPv4 is an unused address in the same network.
	otherIPv4 = "198.51.100.9"
)

// network is two machines connected by a cable: Linux network namespaces. Nothing else is reachable from them.
type network struct {
	server, client namespace
}

type namespace string

var networks atomic.Int32

// newNetwork makes a network, which requires root and is removed at the end of the test.
func newNetwork(t *testing.T) network {
	t.Helper()
	ip := peer(t, "ip", "iproute2")
	needRoot(t, "a network namespace")
	needIPv6(t)
	serial := networks.Add(1)
	name := fmt.Sprintf("mt%d-%d", os.Getpid(), serial)
	n := network{namespace(name + "s"), namespace(name + "c")}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	for _, ns := range []namespace{n.server, n.client} {
		run("netns", "add", string(ns))
		t.Cleanup(func() { exec.Command(ip, "netns", "delete", string(ns)).Run() })
		run("-n", string(ns), "link", "set", "lo", "up")
	}
	run("-n", string(n.server), "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", string(n.client))
	for ns, addrs := range map[namespace][]string{n.server: {serverIPv4 + "/24", serverIPv6 + "/64"}, n.client: {clientIPv4 + "/24", clientIPv6 + "/64"}} {
		for _, addr := range addrs {
			args := []string{"-n", string(ns), "addr", "add", addr, "dev", "eth0"}
			if strings.Contains(addr, ":") {
				args = append(args, "nodad")
			}
			run(args...)
		}
		run("-n", string(ns), "link", "set", "eth0", "up")
		ns.completeChecksums(t, "eth0")
	}
	return n
}

// command runs a program in the namespace.
func (ns namespace) command(program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", string(ns), program}, args...)...)
}

// do runs f, whose sockets are then of the namespace and stay so.
func (ns namespace) do(t *testing.T, f func()) {
	t.Helper()
	inNetwork(t, "/run/netns/"+string(ns), f)
}

// inNetwork runs f, whose sockets are then of the network namespace that the file leads to.
func inNetwork(t *testing.T, path string, f func()) {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		file, err := os.Open(path)
		if err == nil {
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
			file.Close()
		}
		if err == nil {
			f()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

// firewall puts rules of nftables into the namespace's input, in place of those before.
func (ns namespace) firewall(t *testing.T, rules ...string) {
	t.Helper()
	peer(t, "nft", "nftables")
	text := "flush ruleset\ntable inet filter {\n  chain input {\n    type filter hook input priority 0;\n    " + strings.Join(rules, "\n    ") + "\n  }\n}\n"
	cmd := ns.command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s%s", err, out, text)
	}
}

// nameServer answers for these names at the server's address, with a TTL of five minutes.
func (n network) nameServer(t *testing.T, names map[string][]string) {
	t.Helper()
	var packets net.PacketConn
	var err error
	n.server.do(t, func() { packets, err = net.ListenPacket("udp", serverIPv4+":53") })
	if err != nil {
		t.Fatal(err)
	}
	serveNames(t, packets, names)
}

// serveNames answers at a socket until the test ends.
func serveNames(t *testing.T, packets net.PacketConn, names map[string][]string) {
	t.Helper()
	serveNamesAt(t, &dns.Server{PacketConn: packets}, names)
}

// serveNamesAt is serveNames at the socket of a server.
func serveNamesAt(t *testing.T, server *dns.Server, names map[string][]string) {
	t.Helper()
	answer := func(w dns.ResponseWriter, q *dns.Msg) {
		m, question := new(dns.Msg).SetReply(q), q.Question[0]
		addrs, known := names[strings.TrimSuffix(question.Name, ".")]
		if !known {
			m.Rcode = dns.RcodeNameError
		}
		for _, text := range addrs {
			addr, header := netip.MustParseAddr(text), dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: 300}
			switch {
			case addr.Is4() && question.Qtype == dns.TypeA:
				m.Answer = append(m.Answer, &dns.A{Hdr: header, A: addr.AsSlice()})
			case addr.Is6() && question.Qtype == dns.TypeAAAA:
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: header, AAAA: addr.AsSlice()})
			}
		}
		w.WriteMsg(m)
	}
	started := make(chan struct{})
	server.Handler, server.NotifyStartedFunc = dns.HandlerFunc(answer), func() { close(started) }
	ended := make(chan struct{})
	go func() {
		server.ActivateAndServe()
		close(ended)
	}()
	<-started
	t.Cleanup(func() {
		server.Shutdown()
		<-ended
	})
}
