package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

// redisInside returns the address at which programs in the namespace reach a Redis server outside.
func (ns namespace) redisInside(t *testing.T, server *redistest.Server, ip string) string {
	t.Helper()
	var listener net.Listener
	var err error
	ns.do(t, func() { listener, err = net.Listen("tcp", ip+":0") })
	if err != nil {
		t.Fatal(err)
	}
	return redistest.NewProxy(t, listener, server.Addr).Addr()
}

// joinCluster starts a machine in the namespace with a relay at an address of the namespace, on the ports 3478 and 5349.
func (ns namespace) joinCluster(t *testing.T, name, ip, redis, lines string) clusterMachine {
	t.Helper()
	dir, err := os.MkdirTemp("", "cluster") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := clusterMachine{config: filepath.Join(dir, "maddy.conf"), socket: filepath.Join(dir, "socket")}
	text := fmt.Sprintf(`
hostname = "localhost"
control {
  path = %q
}
cluster {
  redis       = ["redis://%s"]
  name        = %q
  turn_server = %q
  %s
}
endpoint "turn" "turn" {
  listen   = ["udp://%[4]s:3478", "tcp://%[4]s:3478", "tls://%[4]s:5349"]
  realm    = "example.org"
  secret   = %[6]q
  relay_ip = %[4]q
  peers {
    allow = ["198.51.100.0/24"]
  }
}
endpoint "imap" "imap" {
  listen      = "tls://%[4]s:993"
  turn_server = %[4]q
  embedded {
    users = {
      "alice@example.org" = "wonderland"
      "bob@example.org"   = "builder"
    }
  }
}
`, m.socket, redis, name, ip, lines, secret)
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.server = startCommand(t, ns.command(binary, "run", "--state-dir", t.TempDir(), "--config", m.config))
	return m
}

// awaitHosts waits until the accounts of the machine are told exactly these hosts, and returns how long it took.
func (m clusterMachine) awaitHosts(t *testing.T, limit time.Duration, hosts ...string) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		told := make(map[string]bool)
		for i := range 20 {
			told[m.issue(t, fmt.Sprintf("user%d@example.org", i)).host] = true
		}
		complete := len(told) == len(hosts)
		for _, host := range hosts {
			complete = complete && told[host]
		}
		if complete {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			t.Fatalf("after %v accounts are told %v, want %v\n%s\n%s", limit, told, hosts, m.ctl(t, "cluster"), m.stderr)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestUnreachableRelay has a firewall drop what is sent to one of three relays, which itself is well and says so. The others find out,
// and no account is told it until it can be reached again.
func TestUnreachableRelay(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	n := newNetwork(t)
	const one, two, three = "198.51.100.11", "198.51.100.12", "198.51.100.13"
	redis := n.server.redisInside(t, redisServer, "127.0.0.1")
	machines := make(map[string]clusterMachine)
	for _, ip := range []string{one, two, three} {
		n.server.ip(t, "addr", "add", ip+"/32", "dev", "lo")
		machines[ip] = n.server.joinCluster(t, "relay"+ip[len(ip)-2:], ip, redis, "")
	}
	machines[one].awaitHosts(t, startLimit, one, two, three)

	n.server.firewall(t, "ip daddr "+two+" tcp dport 3478 drop")
	took := machines[one].awaitHosts(t, 2*startLimit, one, three)
	t.Logf("after %v no account is told the relay whose TCP port is filtered", took.Round(time.Second))
	if list := machines[three].ctl(t, "cluster"); !strings.Contains(list, "unreachable") ||
		!strings.Contains(list, "relay12 cannot be reached from relay11: TCP port 3478: ") {
		t.Errorf("mailturn ctl cluster:\n%s", list)
	}
	n.server.firewall(t)
	took = machines[one].awaitHosts(t, 2*startLimit, one, two, three)
	t.Logf("after %v accounts are told it again", took.Round(time.Second))
}
