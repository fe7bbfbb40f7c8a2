package shared

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// refusal is why a connection was closed that neither an endpoint nor the fallback received.
type refusal int

// The reasons.
const (
	crowded        refusal = iota // there are too many whose protocol is not known yet
	silent                        // it did not say in time what it wants
	noHeader                      // of a proxy, without a PROXY header
	unintelligible                // no endpoint speaks its protocol, or it is not TLS, and there is no fallback
	badHandshake                  // of TLS, that failed
	endpointClosed                // the endpoint does not accept connections
	fallbackFull                  // max_connections of the fallback
	refusals
)

// String returns the label of a metric.
func (r refusal) String() string {
	return [...]string{"crowded", "silent", "no_proxy_header", "unintelligible", "handshake", "endpoint_closed", "max_connections"}[r]
}

// counters count since the start.
type counters struct {
	taken     [HTTP + 1]atomic.Uint64 // by endpoints
	passed    atomic.Uint64           // to the fallback
	validated atomic.Uint64           // handshakes of certificate authorities
	failures  atomic.Uint64           // to reach the fallback
	refused   [refusals]atomic.Uint64
}

// Descriptions of the metrics of a port.
var (
	connectionsDesc = prometheus.NewDesc("mailturn_shared_port_connections_total", "Connections whose protocol was recognized, by destination.", []string{"shared_port", "to"}, nil)
	refusedDesc     = prometheus.NewDesc("mailturn_shared_port_refused_total", "Connections that were closed, by reason.", []string{"shared_port", "reason"}, nil)
	failuresDesc    = prometheus.NewDesc("mailturn_shared_port_fallback_failures_total", "Connections that were closed because the fallback could not be reached.", []string{"shared_port"}, nil)
	pendingDesc     = prometheus.NewDesc("mailturn_shared_port_pending", "Connections whose protocol is not known yet.", []string{"shared_port"}, nil)
	passingDesc     = prometheus.NewDesc("mailturn_shared_port_fallback_connections", "Connections to the fallback that are open.", []string{"shared_port"}, nil)
)

// Collector has the metrics of several ports. It is safe for concurrent use.
type Collector struct{ Ports Ports }

// Describe implements prometheus.Collector.
func (c Collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{connectionsDesc, refusedDesc, failuresDesc, pendingDesc, passingDesc} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (c Collector) Collect(to chan<- prometheus.Metric) {
	for _, p := range c.Ports {
		name := p.config.Load().Listen.String()
		count := func(desc *prometheus.Desc, n *atomic.Uint64, labels ...string) {
			to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n.Load()), append([]string{name}, labels...)...)
		}
		for protocol := range p.counters.taken {
			count(connectionsDesc, &p.counters.taken[protocol], Protocol(protocol).String())
		}
		count(connectionsDesc, &p.counters.passed, "fallback")
		count(connectionsDesc, &p.counters.validated, "acme")
		for reason := range p.counters.refused {
			count(refusedDesc, &p.counters.refused[reason], refusal(reason).String())
		}
		count(failuresDesc, &p.counters.failures)
		to <- prometheus.MustNewConstMetric(pendingDesc, prometheus.GaugeValue, float64(p.pending.count()), name)
		to <- prometheus.MustNewConstMetric(passingDesc, prometheus.GaugeValue, float64(p.passing.count()), name)
	}
}
