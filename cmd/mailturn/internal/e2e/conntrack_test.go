package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/probe"
)

// strictFirewall is an /etc/nftables.conf that drops whatever it does not know, in both directions.
const strictFirewall = `flush ruleset
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
  }
  chain output {
    type filter hook output priority filter; policy drop;
    oifname "lo" accept
    ct state established,related accept
  }
}
`

// rules replaces the namespace's rules of nftables.
func (ns namespace) rules(t *testing.T, texts ...string) {
	t.Helper()
	cmd := ns.command(peer(t, "nft", "nftables"), "-f", "-")
	cmd.Stdin = strings.NewReader(strings.Join(texts, ""))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s\n%s", err, out, strings.Join(texts, ""))
	}
}

// tracked returns the number of connections that the namespace's kernel tracks.
func (ns namespace) tracked(t *testing.T) int {
	t.Helper()
	text, err := ns.command("cat", "/proc/sys/net/netfilter/nf_conntrack_count").Output()
	n, invalid := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || invalid != nil {
		t.Fatal(err, invalid)
	}
	return n
}

// TestRelayIsNotTracked relays through a firewall that tracks connections, with the exported rules and with parts of them.
func TestRelayIsNotTracked(t *testing.T) {
	t.Parallel()
	s := startSite(t, publicRelay, "", "")
	config := filepath.Join(t.TempDir(), "maddy.conf")
	if err := os.WriteFile(config, []byte(siteText(publicRelay, "", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	secretFile := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secretFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	exported := func(user string) string {
		out, err := exec.Command(binary, "export", "nftables", "--config", config, "--user", user).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	self := strconv.Itoa(os.Getuid())
	rules := exported(self)
	const noTracking = "delete table inet mailturn\n"

	for _, tt := range []struct {
		name  string
		rules []string
		want  bool // whether packets of calls are tracked
	}{
		{"exported", []string{rules}, false},
		{"loaded twice", []string{rules, rules}, false},
		{"where the user is not known", []string{strings.ReplaceAll(rules, "meta skuid "+self+" ", "")}, false},
		{"of another user", []string{exported("12345")}, true},
		{"open ports alone", []string{rules, noTracking}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.server.rules(t, strictFirewall, strings.Join(tt.rules, ""))
			before := s.server.tracked(t)
			r := runProbe(t, s.client, "", "--quick", "--secret-file", secretFile, "turn:"+serverIPv4)
			wantVerdict(t, r, "", probe.OK, "A call would connect.")
			if direct := r.Relays[0].Direct; direct == nil || direct.Received == 0 {
				t.Errorf("nothing from outside was relayed: %+v", r.Relays[0])
			}
			if made := s.server.tracked(t) - before; made > 0 != tt.want {
				t.Errorf("%d connections are tracked, want some: %v", made, tt.want)
			}
		})
	}

	t.Run("ICMP errors", func(t *testing.T) {
		s.server.rules(t, strictFirewall, rules)
		var conn net.Conn
		var err error
		s.server.do(t, func() {
			dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(serverIPv4), Port: 65001}}
			conn, err = dialer.Dial("udp4", clientIPv4+":9")
		})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err = conn.Write([]byte("to a closed port")); err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want the error that the peer's machine reports by ICMP", err)
		}
	})

	s.server.rules(t, strictFirewall)
	wantVerdict(t, runProbe(t, s.client, "", "--quick", "--secret-file", secretFile, "turn:"+serverIPv4), "turn.udp", probe.Failure, "")
}

// TestForwardedPacketsAreTracked sends packets from a machine behind the relay's own, which masquerades them, over a port of the
// relay's range.
func TestForwardedPacketsAreTracked(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	inside := namespace(strings.TrimSuffix(string(n.server), "s") + "i")
	for _, args := range []string{
		"netns add " + string(inside),
		"-n " + string(n.server) + " link add eth1 type veth peer name eth0 netns " + string(inside),
		"-n " + string(n.server) + " addr add 10.9.8.1/24 dev eth1",
		"-n " + string(n.server) + " link set eth1 up",
		"-n " + string(inside) + " addr add 10.9.8.2/24 dev eth0",
		"-n " + string(inside) + " link set eth0 up",
		"-n " + string(inside) + " route add default via 10.9.8.1",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", string(inside)).Run() })
	if out, err := n.server.command("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	config := filepath.Join(t.TempDir(), "maddy.conf")
	if err := os.WriteFile(config, []byte(siteText(publicRelay, "", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	_, rules := export(t, "nftables", config)
	n.server.rules(t, "table ip nat {\n  chain postrouting {\n    type nat hook postrouting priority srcnat;\n    oifname \"eth0\" masquerade\n  }\n}\n",
		strings.ReplaceAll(rules, "table inet filter", "table inet unused"))

	var far net.PacketConn
	var err error
	n.client.do(t, func() { far, err = net.ListenPacket("udp4", clientIPv4+":4000") })
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	var near net.Conn
	inside.do(t, func() {
		dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(10, 9, 8, 2), Port: 50000}}
		near, err = dialer.Dial("udp4", clientIPv4+":4000")
	})
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far.SetDeadline(time.Now().Add(10 * time.Second))
	near.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := near.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	_, from, err := far.ReadFrom(buf)
	if err != nil || from.String() != fmt.Sprint(serverIPv4, ":50000") {
		t.Fatalf("the question came from %v, %v: this test wants a port of the relay", from, err)
	}
	if _, err := far.WriteTo([]byte("answer"), from); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(buf); err != nil {
		t.Errorf("the answer does not arrive: %v", err)
	}
}

// withFiles runs the program in the namespace with other texts in files of /proc.
func (ns namespace) withFiles(t *testing.T, files map[string]string, program string, args ...string) *exec.Cmd {
	t.Helper()
	var script strings.Builder
	for name, text := range files {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&script, "mount --bind %s %s && ", file, name)
	}
	// ip gives it mounts of its own.
	return ns.command("sh", append([]string{"-c", script.String() + `exec "$0" "$@"`, program}, args...)...)
}

// TestFullTableOfConnections has a kernel whose table of tracked connections is small and full: the log, the metrics and the probe tell.
func TestFullTableOfConnections(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.server.rules(t, strictFirewall) // which has the kernel track connections
	const door = "endpoint \"http\" \"http\" {\n  listen = \"http://127.0.0.1:8080\"\n}\n"
	config, secretFile := filepath.Join(t.TempDir(), "maddy.conf"), filepath.Join(t.TempDir(), "secret")
	for name, text := range map[string]string{config: siteText(publicRelay, "", "") + door, secretFile: secret} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	full := map[string]string{
		"/proc/sys/net/netfilter/nf_conntrack_count": "4096\n", "/proc/sys/net/netfilter/nf_conntrack_max": "4096\n", "/proc/sys/net/core/rmem_max": "212992\n",
	}
	s := startCommand(t, n.server.withFiles(t, full, binary, "run", "--state-dir", t.TempDir(), "--config", config))
	for _, want := range []string{"net.core.rmem_max is 212992, want 4194304; ", "net.netfilter.nf_conntrack_max is 4096, want ", "net.ipv4.ip_local_reserved_ports lacks 49152-60999 of relay_ports"} {
		if strings.Count(s.stderr.String(), want) != 1 {
			t.Errorf("the log does not say once %q", want)
		}
	}
	metrics, err := n.server.command(peer(t, "curl", "curl"), "--silent", "--fail", "http://127.0.0.1:8080/metrics").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nmailturn_conntrack_entries 4096\n", "\nmailturn_conntrack_entries_limit 4096\n"} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("no %q among the metrics", want)
		}
	}

	ask := func(ns namespace, files map[string]string, port string) *probe.Report {
		t.Helper()
		out, err := ns.withFiles(t, files, binary, "probe", "--quick", "--json", "--secret-file", secretFile, "turn:"+serverIPv4+port).Output()
		var r probe.Report
		if invalid := json.Unmarshal(out, &r); invalid != nil {
			t.Fatalf("%v, %v\n%s", err, invalid, out)
		}
		return &r
	}
	const tells = "kernel tracks 4096 of at most 4096 connections: "
	wantVerdict(t, ask(n.server, full, ""), "machine.conntrack", probe.Warning, tells+"when the table is full")
	wantVerdict(t, ask(n.server, full, ":3999"), "machine.conntrack", probe.Failure, tells+"the table is full")
	r := ask(n.server, nil, "")
	wantCheck(t, r, "machine.conntrack", probe.OK)
	if r.Conntrack == nil || r.Conntrack.Limit == 0 {
		t.Errorf("the report has %+v", r.Conntrack)
	}
	n.server.rules(t, "flush ruleset\n")
	if r := ask(n.client, full, ""); r.Conntrack != nil || r.Verdict.Status != probe.OK {
		t.Errorf("the table of the client's machine is judged: %+v, %+v", r.Conntrack, r.Verdict)
	}
}
