package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
	"github.com/mailturn/mailturn/framework/cluster/redistest"
	"github.com/mailturn/mailturn/imapext/discovery"
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
	ipv6 := ""
	if ip == serverIPv4 {
		ipv6 = fmt.Sprintf(`, "tls://[%s]:993"`, serverIPv6)
	}
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
  listen      = ["tls://%[4]s:993"%[7]s]
  turn_server = %[4]q
  embedded {
    users = {
      "alice@example.org" = "wonderland"
      "bob@example.org"   = "builder"
    }
  }
}
`, m.socket, redis, name, ip, lines, secret, ipv6)
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

// awaitRelay waits until mailturn ctl cluster lists a relay in a state.
func (m clusterMachine) awaitRelay(t *testing.T, limit time.Duration, name, state string) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		list := m.ctl(t, "cluster")
		for line := range strings.Lines(list) {
			if strings.HasPrefix(line, name+" ") && strings.Contains(line, " "+state+" ") {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v the relay %s is not %s:\n%s\n%s", limit, name, state, list, m.stderr)
		}
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
	machines[three].awaitRelay(t, startLimit, "relay12", "unreachable")
	if list := machines[three].ctl(t, "cluster"); !strings.Contains(list, "relay12 cannot be reached from relay11: TCP port 3478: ") {
		t.Errorf("mailturn ctl cluster:\n%s", list)
	}
	n.server.firewall(t)
	took = machines[one].awaitHosts(t, 2*startLimit, one, two, three)
	t.Logf("after %v accounts are told it again", took.Round(time.Second))
}

// clientRegions has clients of two networks ask one machine.
func clientRegions(t *testing.T, _ documents, b recipe.Block) {
	n := newNetwork(t)
	const other = "198.51.100.11"
	n.server.ip(t, "addr", "add", other+"/32", "dev", "lo")
	redis := n.server.redisInside(t, redistest.Start(t), "127.0.0.1")
	table := filepath.Join(t.TempDir(), "regions")
	must(t, os.WriteFile(table, []byte(b.Text), 0o600))
	mail := n.server.joinCluster(t, "eu", serverIPv4, redis, fmt.Sprintf("region = \"eu\"\n  client_regions = %q", table))
	n.server.joinCluster(t, "us", other, redis, "region = \"us\"")
	mail.awaitRelay(t, startLimit, "us", "serving")
	mail.awaitHosts(t, startLimit, serverIPv4) // by control, without a client's address
	for server, want := range map[string]string{serverIPv4: other, serverIPv6: serverIPv4} {
		if got := n.client.told(t, server, "alice@example.org", "wonderland").host; got != want {
			t.Errorf("a client of %s is told %s, want %s", server, got, want)
		}
	}
}

// told returns what an account is told, as a client in the namespace, by the IMAP endpoint at the server's address.
func (ns namespace) told(t *testing.T, server, account, password string) credential {
	t.Helper()
	conn := ns.dial(t, "tcp", net.JoinHostPort(server, "993"))
	client, err := discovery.NewClient(t.Context(), tls.Client(conn, &tls.Config{InsecureSkipVerify: true}))
	must(t, err)
	defer client.Close()
	_, err = client.LogIn(t.Context(), discovery.Credentials{Username: account, Password: password})
	must(t, err)
	entries, err := client.GetMetadata(t.Context(), []string{"/shared/vendor/deltachat/turn"})
	must(t, err)
	if len(entries) != 1 {
		t.Fatalf("%d entries", len(entries))
	}
	return parseValue(t, entries[0].Value.Octets())
}
