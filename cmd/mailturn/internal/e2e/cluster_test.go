package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/cluster/redistest"
	"github.com/mailturn/mailturn/framework/control"
)

// clusterMachine is a machine of a cluster.
type clusterMachine struct {
	*server
	ports
	config, socket string
}

// ctl returns the output of mailturn ctl on the machine.
func (m clusterMachine) ctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(binary, append([]string{"ctl", "--config", m.config}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("mailturn ctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// issue returns a credential for an account.
func (m clusterMachine) issue(t *testing.T, account string) credential {
	t.Helper()
	var issued struct{ TURN string }
	client := control.Client{Path: m.socket}
	if err := client.Call(t.Context(), http.MethodPost, "/v1/credentials", map[string]string{"account": account}, &issued); err != nil {
		t.Fatal(err)
	}
	return parseValue(t, issued.TURN)
}

// port returns the port of the relay that an account is told.
func (m clusterMachine) port(t *testing.T, account string) int {
	t.Helper()
	port, err := strconv.Atoi(m.issue(t, account).port)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// spread returns the ports of the relays that twenty accounts are told, with the number of accounts of each.
func (m clusterMachine) spread(t *testing.T) map[int]int {
	t.Helper()
	spread := make(map[int]int)
	for i := range 20 {
		spread[m.port(t, fmt.Sprintf("user%d@example.org", i))]++
	}
	return spread
}

// await waits until each account of the machine gets one of the relays on these ports, and each relay has an account. The limits
// are longer than the times in the documentation, for machines on which other tests run.
func (m clusterMachine) await(t *testing.T, limit time.Duration, ports ...int) {
	t.Helper()
	began := time.Now()
	for {
		asked, spread := time.Now(), m.spread(t)
		complete := len(spread) == len(ports)
		for _, port := range ports {
			complete = complete && spread[port] > 0
		}
		if complete {
			t.Logf("after %v accounts are told %v", time.Since(began).Round(100*time.Millisecond), spread)
			return
		}
		if began.Add(limit).Before(asked) {
			t.Fatalf("after %v accounts are told %v, want the ports %v\n%s", limit, spread, ports, m.stderr)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// clusterOfTwo runs two relays, and a mail server without one, with a Redis server over TLS that lets them do what the documentation
// says. Accounts get a relay that is alive, from whichever machine they ask, and their credentials work there.
func clusterOfTwo(t *testing.T, d documents, b recipe.Block) {
	block := d.find(t, "docs/cluster.md", "Join a cluster", "cluster {")
	user := d.find(t, "docs/cluster.md", "The Redis server", "user mailturn")
	dir, err := os.MkdirTemp("", "cluster") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	pair, _, err := certs.SelfSigned(dir, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("k", 44)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tlsPort := freePorts(t).turns
	redisServer := redistest.Start(t, replaced(t, user, "PASSWORD", "sesame"), "user default off",
		fmt.Sprintf("tls-port %d", tlsPort), "tls-cert-file "+pair.Cert, "tls-key-file "+pair.Key, "tls-auth-clients no")

	machine := func(name string, withBlock bool) clusterMachine {
		p := freePorts(t)
		m := clusterMachine{ports: p, config: configure(t, p, allowLoopback, ""), socket: filepath.Join(dir, name+".socket")}
		text, err := os.ReadFile(m.config)
		if err != nil {
			t.Fatal(err)
		}
		if name == "mail" {
			_, imap, _ := bytes.Cut(text, []byte("endpoint \"imap\""))
			text = append([]byte("hostname = \"localhost\"\nlog {\n  level = \"debug\"\n}\nendpoint \"imap\""),
				bytes.Replace(imap, []byte("turn_server ="), fmt.Appendf(nil, "turn_secret = %q\n  turn_port = 9\n  turn_server =", secret), 1)...)
		}
		text = fmt.Appendf(text, "control {\n  path = %q\n}\n", m.socket)
		if withBlock {
			extra := fmt.Sprintf("ca_file = %q\n  name = %q\n  turn_server = \"127.0.0.1\"\n", pair.Cert, name)
			text = append(text, strings.Replace(replaced(t, block, "redis.example.org:6379", "localhost:"+strconv.Itoa(tlsPort),
				"/etc/mailturn/redis.password", password, "/etc/mailturn/cluster.key", key), "region", extra+"  region", 1)...)
		}
		if err := os.WriteFile(m.config, text, 0o600); err != nil {
			t.Fatal(err)
		}
		m.server = start(t, t.TempDir(), "--config", m.config)
		return m
	}
	one, two, mail, alone := machine("one", true), machine("two", true), machine("mail", true), machine("alone", false)
	for _, m := range []clusterMachine{one, two, mail} {
		m.await(t, 15*time.Second, one.turn, two.turn)
	}
	alone.await(t, 0, alone.turn)

	// Every machine gives an account the same relay, which accepts its credential.
	relays := map[int]clusterMachine{one.turn: one, two.turn: two}
	for i := range 4 {
		account := fmt.Sprintf("user%d@example.org", i)
		port := mail.port(t, account)
		if a, b := one.port(t, account), two.port(t, account); a != port || b != port {
			t.Errorf("%s is told the relays on ports %d, %d and %d", account, port, a, b)
		}
		if _, err := turnClient(t, relays[port].ports, mail.issue(t, account)).Allocate(t.Context()); err != nil {
			t.Errorf("%s: %v", account, err)
		}
	}

	one.ctl(t, "drain")
	mail.await(t, 6*time.Second, two.turn)
	if list := mail.ctl(t, "cluster"); !strings.Contains(list, "draining") {
		t.Errorf("mailturn ctl cluster:\n%s", list)
	}
	one.ctl(t, "drain", "--off")
	mail.await(t, 6*time.Second, one.turn, two.turn)

	two.cmd.Process.Kill()
	<-two.exited
	mail.await(t, 15*time.Second, one.turn)

	redisServer.Kill()
	mail.await(t, 15*time.Second, 9) // that of its file
	one.await(t, 15*time.Second, one.turn)
	redisServer.Run(t)
	mail.await(t, 15*time.Second, one.turn)
	one.stop(t)
	mail.await(t, 6*time.Second, 9)
	worked(t, b, programVersion(t, "redis-server", "--version"), "control: accounts are told relays that are alive, over TLS with a user of Redis, and their credentials work", "without the block")
}

// userOfRedis checks that a machine needs what the documentation lets the user of Redis do, and no more.
func userOfRedis(t *testing.T, _ documents, b recipe.Block) {
	line := replaced(t, b, "PASSWORD", "sesame")
	for name, tt := range map[string]struct{ line, want string }{
		"as documented":                {line, "cluster: joined"},
		"without the commands of hash": {strings.Replace(line, " +@hash", "", 1), "add +@hash to its ACL rules"},
		"another password":             {strings.Replace(line, "sesame", "other", 1), "WRONGPASS"},
	} {
		redisServer := redistest.Start(t, "user default off", tt.line)
		path := configure(t, freePorts(t), allowLoopback, "")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = fmt.Appendf(text, "cluster {\n  redis = [\"redis://%s\"]\n  user = \"mailturn\"\n  password = \"sesame\"\n  turn_server = \"127.0.0.1\"\n}\n", redisServer.Addr)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s := start(t, t.TempDir(), "--config", path)
		if got := s.waitFor(t, s.stderr, "msg=\"cluster: "); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
	worked(t, b, programVersion(t, "redis-server", "--version"), "control: relays announce themselves with these permissions", "without those for hashes; another password")
}
