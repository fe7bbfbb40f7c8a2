package rough

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

const (
	plainPort, tlsPort, imapPort, metricsPort = 3478, 5349, 993, 8080
	// homesAtMost is how many users the relay knows, one for each home.
	homesAtMost = 24
)

// user is the mail address of the client of a home.
func (h *home) user() string { return fmt.Sprintf("client%d@example.org", h.number) }

const password = "wonderland"

// relay is mailturn in its namespace, which is restarted several times.
type relay struct {
	ns     namespace
	config string
	state  string
	daemon *daemon.Daemon
	log    strings.Builder
	runs   []process
}

// process is what the metrics of one process of mailturn said.
type process struct {
	idle, busy, last, after metrics // before the first client, when all calls were up, just before its end, and once all clients had left
}

// newRelay starts mailturn, which issues credentials for so long.
func newRelay(t *testing.T, ns namespace, ttl time.Duration) *relay {
	t.Helper()
	r := &relay{ns: ns, config: filepath.Join(t.TempDir(), "maddy.conf"), state: t.TempDir()}
	var users strings.Builder
	for number := range homesAtMost {
		fmt.Fprintf(&users, "      %q = %q\n", (&home{number: number}).user(), password)
	}
	text := fmt.Sprintf(`
log {
  level = "debug"
}
tls {
  cert = %q
  key  = %q
}
endpoint "turn" "turn" {
  listen = [
    "udp://0.0.0.0:%[3]d", "tcp://0.0.0.0:%[3]d", "tls://0.0.0.0:%[4]d",
    "udp://[::]:%[3]d", "tcp://[::]:%[3]d", "tls://[::]:%[4]d",
  ]
  realm         = "example.org"
  secret        = "a secret of 32 bytes for the tests"
  relay_ip      = [%[5]q, %[6]q]
  drain_timeout = "1s"
  peers {
    allow = ["%[5]s/32", "%[6]s/128"]
  }
}
endpoint "imap" "imap" {
  listen      = ["tls://[::]:%[7]d"]
  turn_server = "turn.example.org"
  turn_ttl    = %[8]q
  embedded {
    users = {
%[9]s    }
  }
}
endpoint "http" "http" {
  listen = ["http://127.0.0.1:%[10]d"]
}
`, certificate, key, plainPort, tlsPort, relayIPv4, relayIPv6, imapPort, ttl, users.String(), metricsPort)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	t.Cleanup(func() {
		r.stop(t)
		if t.Failed() {
			t.Logf("mailturn's log:\n%s", r.log.String())
		}
	})
	return r
}

func (r *relay) start(t *testing.T) {
	t.Helper()
	d, err := daemon.Start(context.Background(), r.ns.command(mailturn, "run", "--state-dir", r.state, "--config", r.config), "msg=ready")
	if err != nil {
		t.Fatal(err)
	}
	r.daemon = d
	r.runs = append(r.runs, process{idle: r.metrics(t)})
}

// stop ends the process, and keeps its log.
func (r *relay) stop(t *testing.T) {
	t.Helper()
	if err := r.daemon.Stop(); err != nil {
		t.Error(err)
	}
	r.log.WriteString(r.daemon.Log())
}

// running is the process that runs.
func (r *relay) running() *process { return &r.runs[len(r.runs)-1] }

// last returns the last lines of the running process's log that name one of the clients' addresses.
func (r *relay) last(clients ...string) string {
	var about []string
	for line := range strings.Lines(r.daemon.Log()) {
		if slices.ContainsFunc(clients, func(client string) bool { return strings.Contains(line, "client="+client+":") }) {
			about = append(about, line)
		}
	}
	return strings.Join(about[max(0, len(about)-20):], "")
}

// logged reports whether a line of the log has all of these, and is about the client at an address.
func (r *relay) logged(client string, texts ...string) bool {
	log := r.log.String() + r.daemon.Log()
lines:
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "client="+client+":") {
			continue
		}
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		return true
	}
	return false
}

// descriptors lists those that the process has open, with the state of the sockets of its namespace.
func (r *relay) descriptors(t *testing.T) string {
	return string(r.ns.run(t, "sh", "-c", fmt.Sprintf("ls -l /proc/%d/fd; ss -tuanp", r.daemon.PID())))
}

// metrics are those of Prometheus' text format, by name with labels.
type metrics map[string]float64

// sum adds up all metrics of this name, whatever their labels.
func (m metrics) sum(name string) (sum float64) {
	for key, value := range m {
		if rest, ok := strings.CutPrefix(key, name); ok && (rest == "" || rest[0] == '{') {
			sum += value
		}
	}
	return sum
}

func (r *relay) metrics(t *testing.T) metrics {
	t.Helper()
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: r.ns.dial}}
	response, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", metricsPort))
	if err != nil {
		t.Error(err)
		return nil
	}
	defer response.Body.Close()
	m := metrics{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if at := strings.LastIndexByte(lines.Text(), ' '); at > 0 && !strings.HasPrefix(lines.Text(), "#") {
			if value, err := strconv.ParseFloat(lines.Text()[at+1:], 64); err == nil {
				m[lines.Text()[:at]] = value
			}
		}
	}
	return m
}

// dial connects from the namespace to an IP address and port.
func (ns namespace) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = ns.do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
