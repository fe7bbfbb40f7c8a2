package page

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailturn/mailturn/framework/history"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// The series of the history, before those of the refusals, one for each reason.
const (
	seriesCalls    = iota // relayed addresses in use
	seriesToPeer          // bits per second
	seriesToClient        // bits per second
	seriesLoss            // packets dropped, in percent of all that came
	seriesCPU             // percent of one processor
	seriesRefused         // for each minute, by event.RefusalReason
	numSeries      = seriesRefused + int(event.NumRefusalReasons)
)

// totals are the sums of metrics over all endpoints.
type totals struct {
	at                   time.Time
	calls                float64
	toPeer, toClient     float64 // bytes
	relayed, dropped     float64 // packets
	cpu                  float64 // seconds
	refused              [event.NumRefusalReasons]float64
	streams, connections float64
	certificates         []certificate
	version              string
}

// certificate is one in use.
type certificate struct {
	Kind     string `json:"kind"` // of the endpoint
	Endpoint string `json:"endpoint"`
	File     string `json:"file"`
	Ends     int64  `json:"ends"` // seconds since the Unix epoch; 0 while there is none
}

// gather reads the metrics that /metrics shows.
func gather(metrics prometheus.Gatherer, now time.Time) (t totals) {
	t.at = now
	families, _ := metrics.Gather() // what one collector fails to say is no reason not to show the rest
	for _, family := range families {
		for _, m := range family.GetMetric() {
			v := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			label := func(name string) string {
				for _, pair := range m.GetLabel() {
					if pair.GetName() == name {
						return pair.GetValue()
					}
				}
				return ""
			}
			switch family.GetName() {
			case "mailturn_turn_allocations":
				t.calls += v
			case "mailturn_turn_relayed_bytes_total":
				if label("direction") == "to_peer" {
					t.toPeer += v
				} else {
					t.toClient += v
				}
			case "mailturn_turn_relayed_packets_total":
				t.relayed += v
			case "mailturn_turn_dropped_packets_total":
				t.dropped += v
			case "mailturn_turn_allocations_refused_total":
				for reason := range event.NumRefusalReasons {
					if reason.String() == label("reason") {
						t.refused[reason] += v
					}
				}
			case "mailturn_turn_streams":
				t.streams += v
			case "mailturn_imap_connections":
				t.connections += v
			case "process_cpu_seconds_total":
				t.cpu += v
			case "mailturn_certificate_expiry_timestamp_seconds":
				t.certificates = append(t.certificates, certificate{label("kind"), label("endpoint"), label("file"), int64(v)})
			case "mailturn_build_info":
				t.version = label("version")
			}
		}
	}
	return t
}

// since returns a value of each series between two readings of the counters. A counter that went back, because an engine in another
// process was started again, says nothing.
func (t *totals) since(before *totals) []float64 {
	seconds := t.at.Sub(before.at).Seconds()
	values := make([]float64, numSeries)
	rate := func(now, then, scale float64) float64 {
		if now < then || seconds <= 0 {
			return history.Missing
		}
		return (now - then) * scale / seconds
	}
	values[seriesCalls] = t.calls
	values[seriesToPeer] = rate(t.toPeer, before.toPeer, 8)
	values[seriesToClient] = rate(t.toClient, before.toClient, 8)
	values[seriesCPU] = rate(t.cpu, before.cpu, 100)
	dropped, relayed := t.dropped-before.dropped, t.relayed-before.relayed
	switch {
	case dropped < 0 || relayed < 0:
		values[seriesLoss] = history.Missing
	case dropped+relayed > 0:
		values[seriesLoss] = 100 * dropped / (dropped + relayed)
	}
	for reason := range t.refused {
		values[seriesRefused+reason] = rate(t.refused[reason], before.refused[reason], 60)
	}
	return values
}
