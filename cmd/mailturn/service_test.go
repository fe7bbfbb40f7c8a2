package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/sysctl"
	"github.com/mailturn/mailturn/framework/systemd"
)

// TestMetrics gathers the metrics of a service that has an endpoint of each kind, two of some.
func TestMetrics(t *testing.T) {
	port, err := daemon.FreePort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	file, diags := config.Parse("maddy.conf", fmt.Appendf(nil, `
shared_port "tls://127.0.0.1:%[1]d" {
  fallback = "tcp://127.0.0.1:1"
}
cluster {
  redis       = ["redis://127.0.0.1:1"] # nothing listens
  turn_server = "turn.example.org"
}
endpoint "turn" "one" {
  listen   = ["udp://127.0.0.1:0", "tls://127.0.0.1:0"]
  realm    = "example.org"
  relay_ip = "127.0.0.1"
}
endpoint "turn" "two" {
  listen   = ["udp://127.0.0.1:0"]
  realm    = "example.org"
  relay_ip = "127.0.0.1"
}
endpoint "turn" "three" {
  engine   = "pion"
  listen   = ["udp://127.0.0.1:0", "tls://127.0.0.1:0"]
  realm    = "example.org"
  relay_ip = "127.0.0.1"
}
endpoint "imap" "one" {
  listen      = ["tls://127.0.0.1:0"]
  turn_enable = false
}
endpoint "http" "http" {
  listen = ["http://127.0.0.1:0", "tls://127.0.0.1:%[1]d"]
}
`, port))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	stateDir := t.TempDir()
	selfSigned := filepath.Join(stateDir, "selfsigned.crt")
	s, diags := decode(file, stateDir)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if _, err := s.prepare(time.Now()); err != nil {
		t.Fatal(err)
	}
	running, err := newService(s, systemd.Manager{}, nil, false, slog.New(slog.DiscardHandler), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	if s.process.Ready() {
		t.Error("ready before it was started")
	}
	if err := running.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := running.shutdown(0); err != nil {
			t.Error(err)
		}
		if s.process.Ready() {
			t.Error("ready after it was shut down")
		}
	}()
	if !s.process.Ready() {
		t.Error("not ready after it was started")
	}

	problems, err := testutil.GatherAndLint(s.process.Metrics)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	checkDocumented(t, running, s.process.Metrics)
	names := metricNames(t, s.process.Metrics)
	for _, want := range []string{
		"mailturn_config_reload_success_timestamp_seconds",
		`mailturn_certificate_expiry_timestamp_seconds{endpoint="one",file="` + selfSigned + `",kind="imap"}`,
		`mailturn_certificate_expiry_timestamp_seconds{endpoint="three",file="` + selfSigned + `",kind="turn"}`,
		`mailturn_certificate_expiry_timestamp_seconds{endpoint="one",file="` + selfSigned + `",kind="turn"}`,
		`mailturn_imap_connections{endpoint="one"}`,
		`mailturn_imap_sessions{endpoint="one"}`,
		`mailturn_turn_allocations{endpoint="one",transport="dtls"}`,
		`mailturn_turn_allocations{endpoint="two",transport="udp"}`,
		`mailturn_turn_allocations_ended_total{endpoint="one",reason="expired"}`,
		`mailturn_turn_allocations_refreshed_total{endpoint="one"}`,
		`mailturn_turn_allocations_refused_total{endpoint="one",reason="user_quota"}`,
		`mailturn_turn_allocations_made_total{endpoint="one"}`,
		`mailturn_turn_dropped_packets_total{endpoint="one",reason="malformed"}`,
		`mailturn_turn_relayed_bytes_total{direction="to_client",endpoint="one"}`,
		`mailturn_turn_relayed_packets_total{direction="to_peer",endpoint="two"}`,
		`mailturn_turn_streams{endpoint="one"}`,
		`mailturn_turn_engine_up{endpoint="three"}`,
		`mailturn_turn_engine_restarts_total{endpoint="three"}`,
	} {
		if !slices.Contains(names, want) {
			t.Errorf("no metric %s among\n%s", want, strings.Join(names, "\n"))
		}
	}
}

// checkDocumented compares the names of metrics and the reasons in docs/operating.md with those that can be scraped.
func checkDocumented(t *testing.T, running *service, gatherer prometheus.Gatherer) {
	t.Helper()
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	described := make(chan *prometheus.Desc, 100)
	running.reloaded.Describe(described)
	versionMetric().Describe(described)
	sysctl.ConntrackCollector(nil).Describe(described)
	certs.Collector(nil).Describe(described)
	clusterCollector{}.Describe(described)
	shared.Collector{}.Describe(described)
	for _, endpoint := range running.running {
		if measured, ok := endpoint.(interface{ Collector() prometheus.Collector }); ok {
			measured.Collector().Describe(described)
		}
	}
	close(described)
	there := make(map[string]bool)
	for desc := range described {
		name := regexp.MustCompile(`mailturn_[a-z_]+`).FindString(desc.String())
		there[name] = true
		if !bytes.Contains(text, []byte("| `"+name+"` |")) {
			t.Errorf("docs/operating.md has no row for %s", name)
		}
	}
	for _, name := range regexp.MustCompile(`mailturn_[a-z_]+`).FindAll(text, -1) {
		if !there[string(name)] {
			t.Errorf("docs/operating.md has %s, which does not exist", name)
		}
	}
	for _, name := range metricNames(t, gatherer) {
		reason := regexp.MustCompile(`reason="([a-z_]+)"`).FindStringSubmatch(name)
		if reason != nil && !bytes.Contains(text, []byte("`"+reason[1]+"`")) {
			t.Errorf("docs/operating.md does not explain %s", name)
		}
	}
}

// TestDocumentedLogLines checks that the log lines in docs/operating.md exist in the code.
func TestDocumentedLogLines(t *testing.T) {
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	var sources []byte
	err = filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		sources = append(sources, source...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	messages := regexp.MustCompile(`msg="([^"]+)"`).FindAllSubmatch(text, -1)
	if len(messages) == 0 {
		t.Error("none found")
	}
	for _, message := range messages {
		if !bytes.Contains(sources, append(append([]byte{'"'}, message[1]...), '"')) {
			t.Errorf("docs/operating.md tells of the log line %q, which nobody writes", message[1])
		}
	}
}

// metricNames returns the gathered metrics in the format of Prometheus, without values.
func metricNames(t *testing.T, gatherer prometheus.Gatherer) (names []string) {
	t.Helper()
	families, err := gatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetName()+`="`+label.GetValue()+`"`)
			}
			name := family.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			names = append(names, name)
		}
	}
	return names
}

// TestReloadThatFailsHalfway changes two sockets, of which the second cannot be bound, and checks that the first continues as
// before.
func TestReloadThatFailsHalfway(t *testing.T) {
	dir, err := os.MkdirTemp("", "service") // shorter than the test's own directory, of which the system may not take the name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const before, after = "the secret of last week, of some length", "the secret of the following week"
	with := func(secret, path string) (*setup, error) {
		file, diags := config.Parse("maddy.conf", fmt.Appendf(nil, `
endpoint "credsock" "first" {
  path        = "%[1]s/first"
  turn_secret = "%[2]s"
}
endpoint "credsock" "second" {
  path        = "%[1]s/%[3]s"
  turn_secret = "%[2]s"
}
`, dir, secret, path))
		s, more := decode(file, dir)
		if diags = append(diags, more...); diags.HasErrors() {
			t.Fatal(diags)
		}
		return s, nil
	}
	s, _ := with(before, "second")
	running, err := newService(s, systemd.Manager{}, nil, false, slog.New(slog.DiscardHandler), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	if err := running.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer running.shutdown(0)
	issuedWith := func(secret string) bool {
		conn, err := net.Dial("unix", dir+"/first")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		text, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		username, password, _ := strings.Cut(strings.TrimSpace(string(text)), ":")
		mac := hmac.New(sha1.New, []byte(secret))
		mac.Write([]byte(username))
		return password == base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}

	running.reload(func() (*setup, error) { return with(after, "no/such/directory") })
	if !issuedWith(before) {
		t.Error("a reload that failed has changed the secret of one endpoint")
	}
	if got := running.status(); !strings.Contains(got, "not reloaded: endpoint credsock \"second\": listen on") || strings.Contains(got, "\n") {
		t.Errorf("the status is %q", got)
	}
	running.reload(func() (*setup, error) { return with(after, "second") })
	if !issuedWith(after) {
		t.Error("the reload that followed has not changed the secret")
	}
	if got, want := running.status(), `Serving endpoint credsock "first", endpoint credsock "second"`; got != want {
		t.Errorf("the status is %q, want %q", got, want)
	}
}

// TestHealthOfTheService checks that the log names an endpoint that cannot serve, once, and its recovery.
func TestHealthOfTheService(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	file, diags := config.Parse("maddy.conf", fmt.Appendf(nil, `
hostname = "localhost"
endpoint "imap" "imap" {
  listen      = ["tcp://127.0.0.1:0"]
  turn_enable = false
  upstream {
    address = "tcp://%s"
  }
}
`, server.Addr()))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	s, diags := decode(file, t.TempDir())
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if _, err := s.prepare(time.Now()); err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	running, err := newService(s, systemd.Manager{}, nil, false, slog.New(slog.NewTextHandler(&logged, nil)), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	if err := running.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer running.shutdown(0)
	for range 2 {
		if err := s.process.Health(); err == nil || !strings.Contains(err.Error(), `endpoint imap "imap": backend cannot be reached`) {
			t.Errorf("got %v", err)
		}
	}
	if n := strings.Count(logged.String(), "msg=\"not ready\""); n != 1 {
		t.Errorf("the log says so %d times:\n%s", n, &logged)
	}
}
