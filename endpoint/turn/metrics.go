package turn

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// Descriptions of the metrics of a TURN endpoint.
var (
	allocationsDesc = prometheus.NewDesc("mailturn_turn_allocations",
		"Live allocations, by the transport of the client.", []string{"transport"}, nil)
	streamsDesc        = prometheus.NewDesc("mailturn_turn_streams", "Live TCP and TLS connections and DTLS associations.", nil, nil)
	streamsRefusedDesc = prometheus.NewDesc("mailturn_turn_streams_refused_total",
		"TCP and TLS connections and DTLS associations that were closed because there were too many.", nil, nil)
	addressesDesc = prometheus.NewDesc("mailturn_turn_relay_address_changes_total", "How often the address of the relay changed while it ran.", nil, nil)
	madeDesc      = prometheus.NewDesc("mailturn_turn_allocations_made_total", "Allocations made.", nil, nil)
	refreshedDesc = prometheus.NewDesc("mailturn_turn_allocations_refreshed_total", "Refresh requests granted.", nil, nil)
	refusedDesc   = prometheus.NewDesc("mailturn_turn_allocations_refused_total",
		"Allocate requests with credentials that were refused, by reason.", []string{"reason"}, nil)
	endedDesc   = prometheus.NewDesc("mailturn_turn_allocations_ended_total", "Allocations ended, by reason.", []string{"reason"}, nil)
	relayedDesc = prometheus.NewDesc("mailturn_turn_relayed_bytes_total",
		"Bytes relayed, without the headers of TURN.", []string{"direction"}, nil)
	packetsDesc = prometheus.NewDesc("mailturn_turn_relayed_packets_total", "Packets relayed.", []string{"direction"}, nil)
	icmpDesc    = prometheus.NewDesc("mailturn_turn_icmp_errors_total", "ICMP errors about packets to peers, passed on to clients.", nil, nil)
	droppedDesc = prometheus.NewDesc("mailturn_turn_dropped_packets_total",
		"Packets dropped, by reason.", []string{"reason"}, nil)
	kernelChannelsDesc = prometheus.NewDesc("mailturn_turn_kernel_channels", "Channels that the kernel relays.", nil, nil)
	kernelRelayedDesc  = prometheus.NewDesc("mailturn_turn_kernel_relayed_bytes_total",
		"Bytes relayed by the kernel, which mailturn_turn_relayed_bytes_total includes.", []string{"direction"}, nil)
	kernelPacketsDesc = prometheus.NewDesc("mailturn_turn_kernel_relayed_packets_total",
		"Packets relayed by the kernel, which mailturn_turn_relayed_packets_total includes.", []string{"direction"}, nil)
	kernelPassedUpDesc = prometheus.NewDesc("mailturn_turn_kernel_passed_up_packets_total",
		"Packets of channels in the kernel that it left to the sockets, by reason.", []string{"reason"}, nil)
	errorsDesc = prometheus.NewDesc("mailturn_turn_error_responses_total",
		"STUN error responses sent, by method and error code.", []string{"method", "code"}, nil)
)

// workerMetrics are the counters of the workers, in the order of their descriptions.
var workerMetrics = []struct {
	desc  *prometheus.Desc
	value func(turnsrv.WorkerCounters) float64
}{
	{workerDesc("rounds", "Rounds in which a worker had something to do."), func(w turnsrv.WorkerCounters) float64 { return float64(w.Rounds) }},
	{workerDesc("packets", "Packets that workers received."), func(w turnsrv.WorkerCounters) float64 { return float64(w.Packets) }},
	{workerDesc("gathers", "How often a worker waited for more packets (gather)."), func(w turnsrv.WorkerCounters) float64 { return float64(w.Gathers) }},
	{workerDesc("gathered_packets", "Packets that were waiting after that."), func(w turnsrv.WorkerCounters) float64 { return float64(w.Gathered) }},
	{workerDesc("gather_seconds", "Total duration of such waits."), func(w turnsrv.WorkerCounters) float64 { return w.GatherTime.Seconds() }},
	{workerDesc("coalesced_packets", "Packets that the system delivered in one piece with others (UDP_GRO)."), func(w turnsrv.WorkerCounters) float64 { return float64(w.Coalesced) }},
	{workerDesc("segmented_packets", "Packets passed to the system in one piece with others (UDP_SEGMENT)."), func(w turnsrv.WorkerCounters) float64 { return float64(w.Segmented) }},
	{workerDesc("segment_withdrawals", "Sockets on which the system refused that."), func(w turnsrv.WorkerCounters) float64 { return float64(w.Withdrawn) }},
	{workerDesc("panics", "Panics that the server survived."), func(w turnsrv.WorkerCounters) float64 { return float64(w.Panics) }},
}

func workerDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("mailturn_turn_worker_"+name+"_total", help, nil, nil)
}

// collector reads the counters of the server at each scrape.
type collector struct{ endpoint *Endpoint }

// Collector returns the metrics of the endpoint. It has none before Start, and is safe for concurrent use.
func (e *Endpoint) Collector() prometheus.Collector { return collector{e} }

// Describe implements prometheus.Collector.
func (collector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		allocationsDesc, streamsDesc, streamsRefusedDesc, addressesDesc, madeDesc, refreshedDesc, refusedDesc, endedDesc, relayedDesc, packetsDesc, icmpDesc, droppedDesc, errorsDesc,
		kernelChannelsDesc, kernelRelayedDesc, kernelPacketsDesc, kernelPassedUpDesc,
	} {
		descs <- desc
	}
	for _, metric := range workerMetrics {
		descs <- metric.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	counted, ok := c.endpoint.Counters()
	if !ok {
		return
	}
	gauge := func(desc *prometheus.Desc, v int, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(desc *prometheus.Desc, v uint64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), labels...)
	}
	for transport, n := range counted.AllocationsByTransport {
		gauge(allocationsDesc, n, strings.ToLower(transport.String()))
	}
	gauge(streamsDesc, counted.Streams)
	counter(streamsRefusedDesc, counted.StreamsRefused)
	counter(addressesDesc, c.endpoint.addressChanges.Load())
	counter(madeDesc, counted.AllocationsMade)
	counter(refreshedDesc, counted.AllocationsRefreshed)
	for reason, n := range counted.AllocationsRefused {
		counter(refusedDesc, n, reason.String())
	}
	for reason, n := range counted.AllocationsEnded {
		counter(endedDesc, n, reason.String())
	}
	for direction, traffic := range map[string]event.Traffic{"to_peer": counted.ToPeer, "to_client": counted.ToClient} {
		counter(relayedDesc, traffic.Bytes, direction)
		counter(packetsDesc, traffic.Packets, direction)
	}
	counter(icmpDesc, counted.ICMP)
	gauge(kernelChannelsDesc, counted.Kernel.Channels)
	for direction, traffic := range map[string]event.Traffic{"to_peer": counted.Kernel.ToPeer, "to_client": counted.Kernel.ToClient} {
		counter(kernelRelayedDesc, traffic.Bytes, direction)
		counter(kernelPacketsDesc, traffic.Packets, direction)
	}
	for reason, n := range counted.Kernel.PassedUp {
		counter(kernelPassedUpDesc, n, reason)
	}
	for reason, n := range counted.Dropped {
		counter(droppedDesc, n, reason.String())
	}
	for response, n := range counted.Errors {
		counter(errorsDesc, n, response.Method.String(), strconv.Itoa(int(response.Code)))
	}
	for _, metric := range workerMetrics {
		metrics <- prometheus.MustNewConstMetric(metric.desc, prometheus.CounterValue, metric.value(counted.Workers))
	}
}

// CertificateEnds returns when each certificate in use expires, by its file. It is safe for concurrent use.
func (e *Endpoint) CertificateEnds() map[string]time.Time { return e.certs.Ends() }
