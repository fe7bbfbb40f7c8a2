package pion

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailturn/mailturn/framework/certs"
)

// collector reads the state of the endpoint's engine at each scrape.
type collector struct {
	endpoint *Endpoint
	up       *prometheus.Desc
	restarts *prometheus.Desc
}

// Collector returns the metrics of the endpoint. It is safe for concurrent use.
func (e *Endpoint) Collector() prometheus.Collector {
	return collector{
		e,
		prometheus.NewDesc("mailturn_turn_engine_up", `1 while the process of engine = "pion" serves, else 0.`, nil, nil),
		prometheus.NewDesc("mailturn_turn_engine_restarts_total", `Restarts of the process of engine = "pion".`, nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c collector) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.up
	descs <- c.restarts
}

// Collect implements prometheus.Collector.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	up := 0.0
	if c.endpoint.up.Load() {
		up = 1
	}
	metrics <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, up)
	metrics <- prometheus.MustNewConstMetric(c.restarts, prometheus.CounterValue, float64(c.endpoint.restarts.Load()))
}

// CertificateEnds returns when each certificate expires, by its file. The engine, which presents the certificates, watches the same
// files. It is safe for concurrent use.
func (e *Endpoint) CertificateEnds() map[string]time.Time {
	ends := make(map[string]time.Time)
	for _, pair := range *e.certificates.Load() {
		if certificate, err := certs.ReadPair(pair); err == nil { // otherwise the engine logs the reason
			ends[pair.Cert] = certificate.Leaf.NotAfter
		}
	}
	return ends
}
