package imap

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Descriptions of the metrics of an IMAP endpoint.
var (
	connectionsDesc = prometheus.NewDesc("mailturn_imap_connections",
		"Live connections, including those still in the handshake.", nil, nil)
	sessionsDesc    = prometheus.NewDesc("mailturn_imap_sessions", "Live sessions.", nil, nil)
	credentialsDesc = prometheus.NewDesc("mailturn_imap_credentials_total",
		"Responses to GETMETADATA with a TURN credential.", nil, nil)
)

type collector struct{ endpoint *Endpoint }

// Collector returns the endpoint's metrics. It is safe for concurrent use.
func (e *Endpoint) Collector() prometheus.Collector { return collector{e} }

// Describe implements prometheus.Collector.
func (collector) Describe(descs chan<- *prometheus.Desc) {
	descs <- connectionsDesc
	descs <- sessionsDesc
	descs <- credentialsDesc
}

// Collect implements prometheus.Collector.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	c.endpoint.mu.Lock()
	connections, sessions := c.endpoint.connections, len(c.endpoint.sessions)
	c.endpoint.mu.Unlock()
	metrics <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(connections))
	metrics <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(sessions))
	metrics <- prometheus.MustNewConstMetric(credentialsDesc, prometheus.CounterValue, float64(c.endpoint.credentials.Load()))
}

// CertificateEnds returns when each certificate in use expires, by its file. It is safe for concurrent use.
func (e *Endpoint) CertificateEnds() map[string]time.Time {
	e.mu.Lock()
	store := e.present.certs
	e.mu.Unlock()
	return store.Ends()
}
