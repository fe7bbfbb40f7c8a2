package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/postfix"
)

// mailHost is a machine that serves mail and calls, and the network of its users:
//
//	clients 198.18.x.y+1 ── 198.18.x.y  mailturn: IMAP on 993, 9993 and 143, TURN on 3478
//	                                    Postfix: submission
//	                        127.0.0.1   Dovecot
//
// Where the host is reached over IPv6, the two ends of the wire have 2001:db8:z::2 and 2001:db8:z::1 too, everything listens on the
// latter alone, and all names are its.
//
// The clients run in a network namespace, from where nothing else can be reached: not Dovecot, and not the Internet.
type mailHost struct {
	*server
	engine   engine   // of the relay
	family   string   // IPv4 or IPv6, over which the machine is reached
	addr     string   // of the machine, as the clients see it
	routers  []string // the machine's addresses on the wire, one of each family that the clients have
	clients  namespace
	stateDir string // of mailturn
	config   string // path of mailturn's configuration
	dovecot  *dovecot.Server
	postfix  *postfix.Server
}

// Names in the hosts file of the clients.
const (
	mailDomain = "example.org"
	// mailName is that of the machine. The underscore makes Delta Chat do without the chain of its certificate.
	mailName = "_mail.example.org"
	// plainName is another one.
	plainName = "mail.example.org"
	turnName  = "turn.example.org"
	// nowhere is an address without a route (RFC 5737), the one of publicServer.
	nowhere = "192.0.2.1"
	// nowhere6 is that of IPv6 (RFC 9637).
	nowhere6 = "3fff::1"
)

// publicServer is the relay that Delta Chat uses when its mail server names none.
const publicServer = "turn.delta.chat"

// hosts counts the mailHosts, so that each can have its own addresses.
var hosts atomic.Int64

// newMailHost starts everything but mailturn, reached over IPv4. Edits change Dovecot's options, for which the machine has its
// address by then.
func newMailHost(t *testing.T, edits ...func(*mailHost, *dovecot.Options)) *mailHost {
	t.Helper()
	return newMailHostOver(t, "IPv4", edits...)
}

// newMailHostOver is newMailHost, reached over a family.
func newMailHostOver(t *testing.T, family string, edits ...func(*mailHost, *dovecot.Options)) *mailHost {
	t.Helper()
	needRoot(t, "a network namespace")
	peer(t, "postfix", "postfix")
	m := &mailHost{family: family, engine: mailturnEngine, stateDir: t.TempDir(), config: filepath.Join(t.TempDir(), "maddy.conf")}
	m.connectClients(t)
	options := dovecot.Options{SASL: true, AnyDomain: true}
	for _, edit := range edits {
		edit(m, &options)
	}
	m.dovecot = startDovecot(t, options)
	uid, gid := m.dovecot.Owner()
	var err error
	m.postfix, err = postfix.Start(t.Context(), postfix.Options{
		Host: m.addr, Domain: mailDomain, Users: []string{"alice", "bob", "carol", "dave"}, SASLAddr: m.dovecot.SASLAddr, MailDir: m.dovecot.MailDir(), UID: uid, GID: gid,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.postfix.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("Postfix's log:\n%s", m.postfix.Log())
		}
	})
	return m
}

// connectClients makes the namespace of the clients, and the wire to it.
func (m *mailHost) connectClients(t *testing.T) {
	t.Helper()
	ip := peer(t, "ip", "iproute2")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	// RFC 2544's block for measurements has 32768 wires of 4 addresses. Tests of another process have other ones.
	n := hosts.Add(1)
	wire := uint32(os.Getpid()*8+int(n)) % 32768
	block := net.IPv4(198, 18+byte(wire>>14), byte(wire>>6), byte(wire<<2)).To4()
	at := func(i byte) string { return net.IPv4(block[0], block[1], block[2], block[3]+i).String() }
	at6 := func(i byte) string { return fmt.Sprintf("2001:db8:%x::%d", wire, i) }
	m.addr, m.routers = at(1), []string{at(1)}
	public := nowhere
	if m.family == "IPv6" {
		needIPv6(t)
		m.addr, m.routers = at6(1), append(m.routers, at6(1))
		public = nowhere6
	}
	name := fmt.Sprintf("mailturn%d-%d", os.Getpid(), n)
	m.clients = namespace(name)
	link := fmt.Sprintf("mt%d-%d", os.Getpid(), n) // 15 bytes at most

	etc := filepath.Join("/etc/netns", name) // ip netns exec puts what is in it over /etc
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.RemoveAll(etc)
		os.Remove(filepath.Dir(etc)) // unless there are others
	})
	for name, text := range map[string]string{
		"hosts":         fmt.Sprintf("127.0.0.1 localhost\n%s %s %s %s\n%s %s\n", m.addr, mailName, plainName, turnName, public, publicServer),
		"resolv.conf":   "nameserver " + nowhere + "\n",
		"nsswitch.conf": "hosts: files\n",
	} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run("netns", "add", name)
	t.Cleanup(func() { run("netns", "delete", name) }) // and with it the wire
	run("-n", name, "link", "set", "lo", "up")
	run("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
	run("address", "add", at(1)+"/30", "dev", link)
	run("-n", name, "address", "add", at(2)+"/30", "dev", "eth0")
	if m.family == "IPv6" { // nodad: the addresses can be used at once
		run("address", "add", at6(1)+"/64", "dev", link, "nodad")
		run("-n", name, "address", "add", at6(2)+"/64", "dev", "eth0", "nodad")
	}
	run("link", "set", link, "up")
	run("-n", name, "link", "set", "eth0", "up")
	m.clients.waitForCarrier(t, "eth0")
}

// serve starts mailturn. hostname is what its certificate is for; turn and imap are further lines for the two endpoints.
func (m *mailHost) serve(t *testing.T, hostname, turn, imap string) {
	t.Helper()
	text := fmt.Sprintf(`
hostname = %q
log {
  level = "debug"
}
endpoint "turn" "turn" {
  listen        = ["udp://%[10]s:3478", "tcp://%[10]s:3478"]
  realm         = %[3]q
  secret        = %[4]q
  relay_ip      = %[2]q
  %[5]s
  %[9]s
}
endpoint "imap" "imap" {
  listen      = ["tls://%[10]s:993", "tls://%[10]s:9993", "tcp://%[10]s:143"]
  turn_server = %[6]q
  upstream {
    address = "tcp://%[7]s"
  }
  %[8]s
}
`, hostname, m.addr, mailDomain, secret, turn, turnName, m.dovecot.Addr, imap, m.engine.lines, bracketed(m.addr))
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start(t)
}

// start starts mailturn with the configuration and the state that are there.
func (m *mailHost) start(t *testing.T) {
	t.Helper()
	m.server = start(t, m.stateDir, "--config", m.config)
}

// smtpPort returns the port of submission.
func (m *mailHost) smtpPort(t *testing.T) int {
	t.Helper()
	_, port, err := net.SplitHostPort(m.postfix.Addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
