package certs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var endDesc = prometheus.NewDesc("mailturn_certificate_expiry_timestamp_seconds",
	"When the certificate in use ends, in seconds since the Unix epoch.", []string{"file"}, nil)

// Collector returns the metric of when certificates expire. ends returns that by file; each scrape calls it, possibly concurrently.
func Collector(ends func() map[string]time.Time) prometheus.Collector { return collector(ends) }

type collector func() map[string]time.Time

// Describe implements prometheus.Collector.
func (collector) Describe(descs chan<- *prometheus.Desc) { descs <- endDesc }

// Collect implements prometheus.Collector.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	for file, end := range c() {
		metrics <- prometheus.MustNewConstMetric(endDesc, prometheus.GaugeValue, float64(end.Unix()), file)
	}
}
