package turn

import (
	"context"
	"errors"
	"slices"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/generator"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/process"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
)

// A relayRow is a load of packets that a server relays.
type relayRow struct {
	name string
	generator.Load
	leg      leg                          // how clients reach the server
	bothHere bool                         // both parties of a call are clients of the server
	hangUp   bool                         // end the allocations after each run; for UDP
	during   func(run func() error) error // does something else meanwhile; nil means nothing
	oneCPU   bool                         // the server may use one processor only, and the generator another
}

// relayRows are the loads. Video is evenly spaced or sent in bursts of ten; flow and flows send as much as the server relays.
var relayRows = []relayRow{
	{name: "voice", Load: voice},
	{name: "video", Load: video},
	{name: "bursts", Load: generator.Load{Calls: 20, PPS: 300, Burst: 10, Size: 1100}},
	{name: "flow", Load: generator.Load{Calls: 1, Window: 64, Size: 1200}, oneCPU: true},
	{name: "flows", Load: generator.Load{Calls: 200, Window: 1, Size: 200}, oneCPU: true},
	{name: "tcp", Load: video, leg: overTCP},
	{name: "tls", Load: video, leg: overTLS},
	{name: "dtls", Load: generator.Load{Calls: 20, PPS: 100, Burst: 1, Size: 1100}, leg: overDTLS},
	{name: "both", Load: voice, bothHere: true},
}

var (
	voice = generator.Load{Calls: 100, PPS: 50, Burst: 1, Size: 160}
	video = generator.Load{Calls: 20, PPS: 300, Burst: 1, Size: 1100}
)

// columns are the figures of a row.
func (r relayRow) columns() []report.Column {
	columns := []report.Column{{Name: r.name + " CPU us/packet", Format: "%.2f", Ratio: true, Spread: true}}
	if r.PPS == 0 {
		columns = append(columns, report.Column{Name: r.name + " packets/s", Format: "%.0f", Ratio: true, Spread: true})
	}
	return append(columns,
		report.Column{Name: r.name + " switches/packet", Format: "%.2f"},
		report.Column{Name: r.name + " p50 us", Format: "%.0f"}, report.Column{Name: r.name + " p99 us", Format: "%.0f"},
		report.Column{Name: r.name + " lost %", Format: "%.3f"})
}

// measureRelay measures every server under a load.
func (b *bench) measureRelay(ctx context.Context, r relayRow, kinds []kind) error {
	b.table.Columns = append(b.table.Columns, r.columns()...)
	if r.leg != overUDP || r.bothHere {
		kinds = withTURN(kinds)
	}
	if r.leg == overDTLS {
		kinds = withDTLS(kinds)
	}
	if r.oneCPU {
		kept, leave, err := apart(kinds)
		if err != nil {
			return err
		}
		defer leave()
		kinds = kept
	}
	return b.inTurn(ctx, r.name, kinds, func(s *running, discard bool) error {
		return b.relay(ctx, r, s, discard)
	})
}

// relay measures one server under one load, once.
func (b *bench) relay(ctx context.Context, r relayRow, s *running, discard bool) error {
	g, err := generator.New(r.Load, b.network.peers)
	if err != nil {
		return err
	}
	defer g.Close()
	calls, err := b.call(ctx, r, s, g)
	if err != nil {
		return err
	}
	var result generator.Result
	run := func() (err error) {
		result, err = g.Run(ctx, b.options.relay)
		return err
	}
	used, err := process.During(s.group, func() error {
		if r.during != nil {
			return r.during(run)
		}
		return run()
	})
	if err == nil && r.hangUp {
		port, _ := g.Ports()
		g.Close()
		err = b.hangUp(ctx, s.at, port, calls)
	}
	if err != nil || discard {
		return err
	}
	if result.Received == 0 {
		return errors.New("nothing came")
	}
	packets := float64(result.Received)
	for name, figure := range map[string]float64{
		"CPU us/packet":   used.CPU.Seconds() * 1e6 / packets,
		"packets/s":       packets / result.Took.Seconds(),
		"switches/packet": float64(used.Switches) / packets,
		"p50 us":          float64(result.Late.Percentile(50).Nanoseconds()) / 1000,
		"p99 us":          float64(result.Late.Percentile(99).Nanoseconds()) / 1000,
		"lost %":          100 * result.Lost(),
	} {
		b.table.Add(r.name+" "+name, s.name, figure)
	}
	return nil
}

// apart returns kinds with servers that use the first processor only, and keeps this process on the last one until leave is called.
func apart(kinds []kind) (kept []kind, leave func(), err error) {
	first, last, err := cpus()
	if err != nil {
		return nil, nil, err
	}
	if leave, err = stayOn(last); err != nil {
		return nil, nil, err
	}
	kept = slices.Clone(kinds)
	for i := range kept {
		kept[i].cpu = &first
	}
	return kept, leave, nil
}
