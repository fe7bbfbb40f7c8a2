package main

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mailturn/mailturn/framework/config"
)

// TestMetrics gathers the metrics of a service that has an endpoint of each kind, two of some.
func TestMetrics(t *testing.T) {
	file, diags := config.Parse("maddy.conf", []byte(`
endpoint "turn" "one" {
  listen   = ["udp://127.0.0.1:0"]
  realm    = "example.org"
  relay_ip = "127.0.0.1"
}
endpoint "turn" "two" {
  listen   = ["udp://127.0.0.1:0"]
  realm    = "example.org"
  relay_ip = "127.0.0.1"
}
endpoint "imap" "imap" {
  listen      = ["tls://127.0.0.1:0"]
  turn_enable = false
}
endpoint "http" "http" {
  listen = ["http://127.0.0.1:0"]
}
`))
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
	running, err := newService(s, slog.New(slog.DiscardHandler))
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
	names := metricNames(t, s.process.Metrics)
	for _, want := range []string{
		"mailturn_config_reload_success_timestamp_seconds",
		`mailturn_imap_connections{endpoint="imap"}`,
		`mailturn_imap_sessions{endpoint="imap"}`,
		`mailturn_turn_allocations{endpoint="one",transport="dtls"}`,
		`mailturn_turn_allocations{endpoint="two",transport="udp"}`,
		`mailturn_turn_allocations_ended_total{endpoint="one",reason="expired"}`,
		`mailturn_turn_allocations_refreshed_total{endpoint="one"}`,
		`mailturn_turn_allocations_refused_total{endpoint="one",reason="user_quota"}`,
		`mailturn_turn_pion_failures_total{endpoint="one"}`,
		`mailturn_turn_allocations_made_total{endpoint="one"}`,
		`mailturn_turn_dropped_packets_total{endpoint="one",reason="malformed"}`,
		`mailturn_turn_relayed_bytes_total{direction="to_client",endpoint="one"}`,
		`mailturn_turn_relayed_packets_total{direction="to_peer",endpoint="two"}`,
		`mailturn_turn_streams{endpoint="one"}`,
	} {
		if !slices.Contains(names, want) {
			t.Errorf("no metric %s among\n%s", want, strings.Join(names, "\n"))
		}
	}
}

// metricNames returns what is gathered as Prometheus writes it, without values.
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
