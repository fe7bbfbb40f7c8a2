package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

const (
	dashboardFile = "../../../../dist/grafana/mailturn.json"
	rulesFile     = "../../../../dist/prometheus/mailturn.rules.yml"
)

// dashboard is what the test needs of Grafana's JSON model.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Definition string }
	}
	Panels []dashboardPanel
}

type dashboardPanel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr string }
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboardLayout checks that the panels of the dashboard have their own IDs and places, and queries.
func TestDashboardLayout(t *testing.T) {
	taken := make(map[[2]int]string)
	ids := make(map[int]bool)
	for _, p := range readDashboard(t).Panels {
		if ids[p.ID] {
			t.Errorf("%s: there are two panels with the ID %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s ends at column %d of 24", p.Title, p.GridPos.X+p.GridPos.W)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				place := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, ok := taken[place]; ok {
					t.Fatalf("%s covers %s", p.Title, other)
				}
				taken[place] = p.Title
			}
		}
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("%s, a %s, has %d queries", p.Title, p.Type, len(p.Targets))
		}
	}
}

// prometheus is a Prometheus that scrapes a mailturn each second.
type prometheus struct {
	client *http.Client
	url    string
}

// startPrometheus starts Prometheus with the alert rules, and returns it once mailturn was scraped twice.
func startPrometheus(t *testing.T, target string) prometheus {
	t.Helper()
	program := peer(t, "prometheus", "prometheus")
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
  - job_name: mailturn
    static_configs: [{targets: [%q]}]
`, rules, target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	addr, err := daemon.FreeAddr("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	d, err := daemon.Start(t.Context(), cmd, "Server is ready to receive web requests")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Stop() })
	return prometheus{plainClient(t), "http://" + addr}
}

// query returns how many series an expression yields now.
func (p prometheus) query(t *testing.T, expression string) int {
	t.Helper()
	var answer struct {
		Status, Error string
		Data          struct{ Result []any }
	}
	p.get(t, "/api/v1/query?"+url.Values{"query": {expression}}.Encode(), &answer)
	if answer.Status != "success" {
		t.Fatalf("%s: %s", expression, answer.Error)
	}
	return len(answer.Data.Result)
}

func (p prometheus) get(t *testing.T, path string, answer any) {
	t.Helper()
	response, err := p.client.Get(p.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}

// TestDashboard has Prometheus scrape a mailturn with a call and a login, and checks that each query of the dashboard yields data, and
// that no alert rule fails or fires.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	p := freePorts(t)
	path := configure(t, p, allowLoopback, "")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	target, err := daemon.FreeAddr("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	text = fmt.Appendf(text, "endpoint \"http\" \"http\" {\n  listen = \"http://%s\"\n}\ncluster {\n  redis = [\"redis://%s\"]\n  turn_server = \"127.0.0.1\"\n}\n",
		target, redistest.Start(t).Addr)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	stateDir := t.TempDir()
	start(t, stateDir, "--config", path)
	monitor := startPrometheus(t, target)

	// The figures must move while they are looked at.
	alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	client := turnClient(t, p, alice)
	if _, err := client.Allocate(t.Context()); err != nil {
		t.Fatal(err)
	}
	sink, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	if err := client.ChannelBind(t.Context(), 0x4000, sink.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		t.Fatal(err)
	}
	sending := time.NewTicker(50 * time.Millisecond)
	defer sending.Stop()
	yields := func(expression string) bool {
		deadline := time.After(startLimit)
		for {
			if monitor.query(t, expression) > 0 {
				return true
			}
			select {
			case <-sending.C:
				if err := client.SendChannel(0x4000, []byte("0123456789")); err != nil {
					t.Fatal(err)
				}
			case <-deadline:
				return false
			}
		}
	}

	plain := plainClient(t)
	ask(t, plain, "http://"+target+"/healthz") // counted
	_, exposed := ask(t, plain, "http://"+target+"/metrics")
	queries := 0
	metric := regexp.MustCompile(`\b(mailturn|process)_[a-z_]+`)
	for _, panel := range d.Panels {
		for _, q := range panel.Targets {
			expression := strings.NewReplacer("$__rate_interval", "5s", "$instance", target, "$job", "mailturn").Replace(q.Expr)
			if strings.Contains(expression, "$") {
				t.Errorf("%s: %s has an unknown variable", panel.Title, expression)
			}
			names := metric.FindAllString(expression, -1)
			if len(names) == 0 {
				t.Errorf("%s: %s has no metric", panel.Title, expression)
			}
			absent := ""
			for _, name := range names {
				if !strings.Contains(exposed, "\n# TYPE "+name+" ") {
					absent = name
				}
			}
			switch {
			case strings.HasPrefix(absent, "mailturn_conntrack_"): // a kernel that tracks no connections
			case absent != "":
				t.Errorf("%s: there is no metric %s", panel.Title, absent)
			case !yields(expression):
				t.Errorf("%s: %s yields no data", panel.Title, expression)
			}
			queries++
		}
	}
	if queries < 25 {
		t.Errorf("the dashboard has %d queries", queries)
	}

	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError, State string }
			}
		}
	}
	monitor.get(t, "/api/v1/rules", &rules)
	if len(rules.Data.Groups) != 1 || len(rules.Data.Groups[0].Rules) == 0 {
		t.Fatalf("Prometheus has the rules %+v", rules)
	}
	for _, r := range rules.Data.Groups[0].Rules {
		if r.Health != "ok" || r.State != "inactive" {
			t.Errorf("alert %s: health %s %s, state %s", r.Name, r.Health, r.LastError, r.State)
		}
	}
}

// TestAlertRules checks that the file of alerts has those that the documentation names, and that Prometheus accepts it.
func TestAlertRules(t *testing.T) {
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var inFile []string
	for line := range strings.Lines(string(text)) {
		if expression, ok := strings.CutPrefix(strings.TrimSpace(line), "expr: "); ok {
			inFile = append(inFile, expression)
		}
	}
	documented := readDocuments(t).find(t, "docs/operating.md", "What to watch", "up{").Text
	if got := strings.Join(inFile, "\n"); got != strings.TrimSpace(documented) {
		t.Errorf("the file has the expressions\n%s\nand the documentation\n%s", got, documented)
	}
	if out, err := exec.Command(peer(t, "promtool", "prometheus"), "check", "rules", "--lint-fatal", rulesFile).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
