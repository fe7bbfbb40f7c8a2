package main

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/neighbor"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/rotation"
	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/control"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// decodeCluster checks the cluster block. It comes after the endpoints, because it is about the first TURN endpoint too.
func (s *setup) decodeCluster(block *config.Cluster) hcl.Diagnostics {
	decoded, diags := cluster.Decode(block)
	s.cluster = decoded
	if block != nil && block.SecretRotation.V > 0 && s.stateDir == "" {
		diags = append(diags, config.WithHint(config.Warnf(block.SecretRotation.Range, "Secrets are not stored",
			"There is no state directory, so a restart while Redis does not answer leaves this machine without the secrets that were made, and it refuses credentials."),
			"set state_dir"))
	}
	if block == nil || len(s.relays) == 0 || diags.HasErrors() {
		return diags
	}
	if block.TurnServer.Set {
		if diag := issuer.CheckServer(block.TurnServer); diag != nil {
			diags = append(diags, diag)
		}
		return diags
	}
	if s.hostname == "" {
		diags = append(diags, config.WithHint(config.Errorf(block.Range, "Relay has no name",
			"Other machines must be told a host for clients, but the file sets no hostname."), `add turn_server = "turn1.example.org" to the cluster block`))
	}
	return diags
}

// announcement returns what this file's relay announces to the cluster, apart from its state, and nil if there is no relay. Call it
// after prepare.
func (s *setup) announcement() *cluster.Relay {
	if !s.cluster.Enabled || len(s.relays) == 0 {
		return nil
	}
	relay, block := s.relays[0], s.cluster.Block
	announced := &cluster.Relay{
		Version: buildInfo().Main.Version, Server: cmp.Or(block.TurnServer.V, s.hostname),
		UDP: relay.Ports("udp"), TCP: relay.Ports("tcp"), TLS: relay.Ports("tls"),
		Region: block.Region.V, Weight: block.Weight.V, Capacity: relay.TotalQuota,
	}
	announced.Name = cmp.Or(block.Name.V, announced.Server)
	for _, secret := range relay.Secrets {
		announced.Secrets = append(announced.Secrets, cluster.SecretID(secret.Bytes()))
	}
	return announced
}

// member is this process as a member of a cluster.
type member struct {
	directory   *cluster.Directory // nil if the process is in no cluster
	exchange    *cluster.Exchange  // likewise
	limits      *sharedLimits      // likewise
	logger      *slog.Logger
	incarnation string
	fixed       atomic.Pointer[cluster.Relay] // see setup.announcement
	keeper      *rotation.Keeper              // of the secrets that machines of the cluster have made
	// secrets are those of this process's configuration that relays may accept.
	secrets atomic.Pointer[[]credential.Secret]
	// watch probes other relays in the background, once the process serves.
	watch   *neighbor.Watch
	probing background
	// keeping replaces secrets, and compares them with those of others.
	keeping background

	// relay is the endpoint that is announced, nil if there is none or if it has no counters.
	relay controllable
	// refuses returns why the relay refuses new calls, empty if it does not.
	refuses func() string

	// allowsUpgrade is the attribute allow_upgrade.
	allowsUpgrade atomic.Bool
	answered      atomic.Pointer[cluster.Answer] // to the last request of another machine

	// What follows is of the goroutine that announces.
	served   []string // IDs of requests
	relayed  uint64   // bytes, at measured
	measured time.Time
}

// join prepares the process to be a member of the cluster of settings. Call start next.
func (m *member) join(settings cluster.Settings, refuses func() string, logger *slog.Logger) {
	m.incarnation, m.refuses, m.logger = rand.Text(), refuses, logger
	m.directory = cluster.New(settings, m.announce, logger)
	m.watch = m.watchNeighbors(logger)
}

// start joins the cluster.
func (m *member) start() {
	if m.directory == nil {
		return
	}
	m.directory.Start()
	m.exchange.Start()
	m.limits.Start()
	m.probing.start(m.watch.Run)
	m.keeping.start(m.keepSecrets)
}

// stop leaves the cluster.
func (m *member) stop() {
	m.keeping.stop()
	m.probing.stop()
	m.exchange.Stop()
	if m.limits != nil {
		m.limits.Stop()
	}
	m.directory.Stop()
}

// announce returns what the relay of this process announces now.
func (m *member) announce() []cluster.Relay {
	own := m.own()
	if own == nil {
		return nil
	}
	r := *own
	r.Incarnation, r.Refuses, r.Failed = m.incarnation, m.refuses(), m.watch.Failed()
	r.Answer = m.answered.Load()
	if m.relay == nil {
		return []cluster.Relay{r}
	}
	if counters, ok := m.relay.Counters(); ok {
		r.Allocations = counters.Allocations
		relayed, now := counters.ToClient.Bytes+counters.ToPeer.Bytes, time.Now()
		if elapsed := now.Sub(m.measured); !m.measured.IsZero() && elapsed > 0 {
			r.BitsPerSecond = int64(float64(relayed-m.relayed) * 8 / elapsed.Seconds())
		}
		m.relayed, m.measured = relayed, now
	}
	return []cluster.Relay{r}
}

// refuses returns why the relays of this process accept no new calls, empty if they do. It is safe for concurrent use.
func (r *service) refuses() string {
	if !r.isReady() {
		return cluster.Draining
	}
	if err := r.health(); err != nil {
		return "not ready"
	}
	return ""
}

// Descriptions of the metrics of a cluster.
var (
	clusterRelaysDesc      = prometheus.NewDesc("mailturn_cluster_relays", "Relays of the cluster that are alive; 0 while Redis does not answer.", []string{"state"}, nil)
	clusterAllocationsDesc = prometheus.NewDesc("mailturn_cluster_allocations", "Allocations of all relays of the cluster.", nil, nil)
	clusterThroughputDesc  = prometheus.NewDesc("mailturn_cluster_bytes_per_second", "What all relays of the cluster relay.", nil, nil)
	clusterAnsweredDesc    = prometheus.NewDesc("mailturn_cluster_redis_success_timestamp_seconds", "When Redis last answered, in seconds since the Unix epoch; 0 if it never has.", nil, nil)
	clusterOutageDesc      = prometheus.NewDesc("mailturn_cluster_outage", "1 if Redis does not share a part of what machines share.", []string{"part"}, nil)
	clusterFailuresDesc    = prometheus.NewDesc("mailturn_cluster_redis_failures_total", "Attempts to reach Redis that have failed.", nil, nil)
)

// clusterCollector reads the metrics of a cluster at each scrape. Without a cluster there are none.
type clusterCollector struct{ directory *cluster.Directory }

// Describe implements prometheus.Collector.
func (clusterCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- clusterRelaysDesc
	descs <- clusterAllocationsDesc
	descs <- clusterThroughputDesc
	descs <- clusterAnsweredDesc
	descs <- clusterOutageDesc
	descs <- clusterFailuresDesc
}

// Collect implements prometheus.Collector.
func (c clusterCollector) Collect(metrics chan<- prometheus.Metric) {
	if c.directory == nil {
		return
	}
	states := map[string]float64{"serving": 0, "draining": 0, "full": 0, "not_ready": 0, "unreachable": 0}
	allocations, throughput := 0.0, 0.0
	for _, r := range c.directory.Relays() {
		states[stateOf(r)]++
		allocations += float64(r.Allocations)
		throughput += float64(r.BitsPerSecond) / 8
	}
	metrics <- prometheus.MustNewConstMetric(clusterAllocationsDesc, prometheus.GaugeValue, allocations)
	metrics <- prometheus.MustNewConstMetric(clusterThroughputDesc, prometheus.GaugeValue, throughput)
	for state, n := range states {
		metrics <- prometheus.MustNewConstMetric(clusterRelaysDesc, prometheus.GaugeValue, n, state)
	}
	status := c.directory.Status()
	for _, part := range []cluster.Part{cluster.Announcements, cluster.BansAndNames, cluster.SharedLimits} {
		failing := 0.0
		if slices.ContainsFunc(status.Outages, func(o cluster.Outage) bool { return o.Part == part }) {
			failing = 1
		}
		metrics <- prometheus.MustNewConstMetric(clusterOutageDesc, prometheus.GaugeValue, failing, strings.ReplaceAll(string(part), " ", "_"))
	}
	answered := 0.0
	if !status.Answered.IsZero() {
		answered = float64(status.Answered.UnixMilli()) / 1000
	}
	metrics <- prometheus.MustNewConstMetric(clusterAnsweredDesc, prometheus.GaugeValue, answered)
	metrics <- prometheus.MustNewConstMetric(clusterFailuresDesc, prometheus.CounterValue, float64(status.Failures))
}

// stateOf returns the state of a relay in one word.
func stateOf(r cluster.Relay) string {
	switch {
	case r.Refuses == cluster.Draining:
		return "draining"
	case r.Refuses != "":
		return "not_ready"
	case !r.Reachable():
		return "unreachable"
	case r.Full():
		return "full"
	}
	return "serving"
}

// clusterReport is the response to GET /v1/cluster.
type clusterReport struct {
	// Incarnation is that of the relay of this machine, if it has one.
	Incarnation string `json:"incarnation"`
	// Answered is when Redis last answered, nil if it never has.
	Answered *time.Time `json:"answered"`
	// Error is that of the last attempt to reach Redis, empty if it has succeeded.
	Error string `json:"error,omitempty"`
	// Outages are what is not shared through Redis now. Error is the one of announcements.
	Outages []outageReport  `json:"outages,omitempty"`
	Relays  []cluster.Relay `json:"relays"`
	// NoSecret has the names of relays that accept none of the secrets in the configuration of this machine.
	NoSecret []string `json:"no_secret,omitempty"`
}

// outageReport is something that is not shared through Redis.
type outageReport struct {
	Part  cluster.Part `json:"part"`
	Since time.Time    `json:"since"`
	// Forbidden is set if the user of Redis lacks a permission.
	Forbidden bool   `json:"forbidden,omitempty"`
	Error     string `json:"error"`
}

// String describes the outage for operators, in a sentence.
func (o outageReport) String() string {
	since := o.Since.Local().Format(time.DateTime)
	switch {
	case o.Forbidden:
		return fmt.Sprintf("Redis has refused what %s need since %s: %s.", o.Part, since, printable(o.Error))
	case o.Part == cluster.Announcements:
		return fmt.Sprintf("Redis has been unusable since %s: %s.", since, printable(o.Error))
	}
	return fmt.Sprintf("Redis has not shared %s since %s: %s.", o.Part, since, printable(o.Error))
}

// errNoCluster answers requests about a cluster where there is none.
var errNoCluster = control.Errorf(http.StatusConflict, "this configuration has no cluster block")

// listCluster answers GET /v1/cluster.
func (o *operators) listCluster(http.ResponseWriter, *http.Request) (any, error) {
	report := o.service.member.report()
	if report == nil {
		return nil, errNoCluster
	}
	return report, nil
}

// report returns what this machine knows of the cluster, nil if there is none. It is safe for concurrent use.
func (m *member) report() *clusterReport {
	if m.directory == nil {
		return nil
	}
	status := m.directory.Status()
	report := &clusterReport{Incarnation: m.incarnation, Relays: append([]cluster.Relay{}, m.directory.Relays()...)} // not null
	report.NoSecret = m.strangers(report.Relays)
	if !status.Answered.IsZero() {
		report.Answered = &status.Answered
	}
	if status.Err != nil {
		report.Error = status.Err.Error()
	}
	for _, o := range status.Outages {
		report.Outages = append(report.Outages, outageReport{o.Part, o.Since, cluster.IsPermission(o.Err), o.Err.Error()})
	}
	return report
}
