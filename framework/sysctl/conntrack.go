package sysctl

import (
	"io/fs"

	"github.com/prometheus/client_golang/prometheus"
)

// ConntrackMax is the setting that limits the table of tracked connections. It is the same in every network namespace.
const ConntrackMax = "net.netfilter.nf_conntrack_max"

// Conntrack is the state of the table in which a firewall or NAT tracks connections, UDP included. When it is full, the kernel drops
// packets that would need another entry.
type Conntrack struct {
	Entries int `json:"entries"` // of this network namespace
	Limit   int `json:"limit"`
}

// ReadConntrack reports false if the kernel does not track connections.
func ReadConntrack(settings fs.FS) (c Conntrack, tracks bool) {
	entries, counted := Int(settings, "net.netfilter.nf_conntrack_count")
	limit, limited := Int(settings, ConntrackMax)
	return Conntrack{entries, limit}, counted && limited && limit > 0
}

// Full reports whether there is no room for another connection.
func (c Conntrack) Full() bool { return c.Entries >= c.Limit }

// NearlyFull reports whether more than four fifths of the table are in use.
func (c Conntrack) NearlyFull() bool { return c.Entries > c.Limit/5*4 }

// Descriptions of the metrics.
var (
	entriesDesc = prometheus.NewDesc("mailturn_conntrack_entries", "Connections, UDP included, that the kernel tracks.", nil, nil)
	limitDesc   = prometheus.NewDesc("mailturn_conntrack_entries_limit", "Connections that the kernel can track at a time.", nil, nil)
)

type collector struct{ settings fs.FS }

// ConntrackCollector returns metrics of the table, which are only there while the kernel tracks connections.
func ConntrackCollector(settings fs.FS) prometheus.Collector { return collector{settings} }

// Describe implements prometheus.Collector.
func (collector) Describe(descs chan<- *prometheus.Desc) {
	descs <- entriesDesc
	descs <- limitDesc
}

// Collect implements prometheus.Collector.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	table, tracks := ReadConntrack(c.settings)
	if !tracks {
		return
	}
	metrics <- prometheus.MustNewConstMetric(entriesDesc, prometheus.GaugeValue, float64(table.Entries))
	metrics <- prometheus.MustNewConstMetric(limitDesc, prometheus.GaugeValue, float64(table.Limit))
}
