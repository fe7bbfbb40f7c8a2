package http

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// requestCounter counts answered requests by path and status.
type requestCounter struct{ *prometheus.CounterVec }

func newRequestCounter() *requestCounter {
	return &requestCounter{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mailturn_http_requests_total", Help: "Requests answered, by path and status code.",
	}, []string{"path", "code"})}
}

// pageLabel stands for all paths of the page.
const pageLabel = "page"

// count counts a request. Paths that are not served are counted as one.
func (c *requestCounter) count(path string, status int) {
	if !slices.Contains([]string{turnPath, icePath, metricsPath, healthPath, readyPath, pageLabel}, path) {
		path = "other"
	}
	c.WithLabelValues(path, strconv.Itoa(status)).Inc()
}

// CertificateEnds returns when each certificate in use expires, by its file. It is safe for concurrent use.
func (e *Endpoint) CertificateEnds() map[string]time.Time { return e.certs.Ends() }
