// Package metrics collects the metrics of a process and serves them in the formats of Prometheus.
//
// A metric is named mailturn_<part>_<thing>_<unit>, in base units (seconds, bytes); counters end in _total. Its labels
// come from closed sets: no address, user name or mailbox.
package metrics

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry returns a registry that holds the metrics of the Go runtime and of the process, and nothing else.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// ForEndpoint returns a Registerer of registry for the metrics of one endpoint, which carry its name as the label
// "endpoint". Names come from the configuration, so that set is closed too.
func ForEndpoint(registry prometheus.Registerer, name string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"endpoint": name}, registry)
}

// Handler answers a scrape of gatherer in the format that the client accepts. It runs one scrape at a time, and concurrent requests
// share the result.
func Handler(gatherer prometheus.Gatherer, logger *slog.Logger) http.Handler {
	return promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorLog:       slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		ErrorHandling:  promhttp.ContinueOnError,
		CoalesceGather: true,
	})
}
