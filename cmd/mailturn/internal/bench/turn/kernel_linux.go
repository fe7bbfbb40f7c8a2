package turn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/generator"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/process"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
	"github.com/mailturn/mailturn/turnsrv"
)

// kernelPathName is mailturn with the kernel path. All other rows measure mailturn without it.
const kernelPathName = "kernel path"

// kernelLoads are the loads of measureKernel.
var kernelLoads = []relayRow{
	{name: "voice", Load: voice},
	{name: "video", Load: video},
	{name: "many", Load: generator.Load{Calls: 500, PPS: 40, Burst: 1, Size: 160}},
}

// column returns the name of a column of measureKernel.
func (r relayRow) column(name string) string { return r.name + " " + name }

// measureKernel compares the kernel path with sockets and with coturn.
//
// The kernel works for packets on behalf of whoever it has interrupted, often the generator, so the CPU time of all is counted: the
// server's, the generator's, and that of the kernel's threads for packets. To count what the server costs, and nothing else, packets
// are sent as frames, past the sockets of their senders, and dropped when they arrive at the generator's end; and what they cost if
// they are dropped when they arrive at the server's end ("alone") is subtracted. A server runs only while it is measured, because the
// kernel path's program would cost the others a little.
func (b *bench) measureKernel(ctx context.Context) error {
	if b.network.servers == "" {
		fmt.Fprintln(os.Stderr, "kernel: left out, because packets on loopback do not pass it")
		return nil
	}
	if err := turnsrv.TryKernelPath(); err != nil {
		fmt.Fprintf(os.Stderr, "kernel: left out: %v\n", err)
		return nil
	}
	if _, err := exec.LookPath("ethtool"); err != nil {
		fmt.Fprintln(os.Stderr, "kernel: left out, because it requires ethtool")
		return nil
	}
	// Checksums are computed as for a real network; half-computed ones go up to the sockets.
	restore, err := b.network.computeChecksums(ctx)
	if err != nil {
		return err
	}
	defer restore()
	kinds := []kind{
		{name: kernelPathName, command: b.mailturnAt(kernelPathName, b.builds[0], "total_quota = 0\n  "+kernelPathOn)},
		{name: mailturnName, command: b.mailturn(mailturnName, b.builds[0], "")},
		{name: coturnName, command: b.coturn("turnserver")},
	}
	for i := range kinds {
		kinds[i].host = b.network.server(i)
	}
	b.begin("kernel path", coturnName, kinds)
	for _, r := range kernelLoads {
		for _, c := range []report.Column{
			{Name: "CPU us/packet", Format: "%.2f", Ratio: true, Spread: true},
			{Name: "alone CPU us/packet", Format: "%.2f"},
			{Name: "server CPU us/packet", Format: "%.2f", Ratio: true, Spread: true},
			{Name: "p50 us", Format: "%.0f"}, {Name: "p99 us", Format: "%.0f"}, {Name: "lost %", Format: "%.3f"},
		} {
			c.Name = r.column(c.Name)
			b.table.Columns = append(b.table.Columns, c)
		}
		b.goals[b.table] = append(b.goals[b.table],
			report.Goal{Column: r.column("CPU us/packet"), Name: kernelPathName, Beside: coturnName, Bound: 0.15},
			report.Goal{Column: r.column("p99 us"), Name: kernelPathName, Beside: coturnName, Bound: 1})
		for i := range b.options.runs {
			fmt.Fprintf(os.Stderr, "\rkernel %s, run %d of %d ", r.name, i+1, b.options.runs)
			for j := range kinds {
				k := kinds[(i+j)%len(kinds)]
				if err := b.measureWithKernel(ctx, r, k); err != nil {
					return fmt.Errorf("%s: %w", k.name, err)
				}
			}
		}
		fmt.Fprintln(os.Stderr)
	}
	return b.measureFlood(ctx, kinds)
}

// measureWithKernel measures one server under one load, once.
func (b *bench) measureWithKernel(ctx context.Context, r relayRow, k kind) (err error) {
	s, err := b.start(ctx, k)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.child.Stop()) }()
	g, err := generator.New(r.Load, b.network.peers)
	if err != nil {
		return err
	}
	defer g.Close()
	calls, err := b.call(ctx, r, s, g)
	if err != nil {
		return err
	}
	if _, err := g.Run(ctx, b.options.relay/5); err != nil { // until the kernel relays
		return err
	}
	result, err := g.Run(ctx, b.options.relay)
	if err != nil {
		return err
	}
	clientPort, peerPort := g.Ports()
	f, err := b.network.openFrames(r.Load, calls, clientPort, peerPort)
	if err != nil {
		return err
	}
	relayed, alone, err := b.alternate(ctx, f, s.group)
	if err = errors.Join(err, f.close()); err != nil {
		return err
	}
	if result.Received == 0 {
		return errors.New("nothing came")
	}
	for name, figure := range map[string]float64{
		"CPU us/packet":        relayed.all - alone.all,
		"alone CPU us/packet":  alone.all,
		"server CPU us/packet": relayed.server,
		"p50 us":               float64(result.Late.Percentile(50).Nanoseconds()) / 1000,
		"p99 us":               float64(result.Late.Percentile(99).Nanoseconds()) / 1000,
		"lost %":               100 * result.Lost(),
	} {
		b.table.Add(r.column(name), s.name, figure)
	}
	return nil
}

// sinkSlices is how often the measurements of alternate take turns.
const sinkSlices = 10

// perPacket is CPU time in microseconds of a packet: of the server, the generator and the kernel's threads, and of the server only.
type perPacket struct{ all, server float64 }

// alternate sends frames in turn to a server, which relays them into a sink, and into a sink at the server's end. It returns what a packet
// costs in both cases. Other programs on the machine only add to that, so these are the lower quartiles.
func (b *bench) alternate(ctx context.Context, f *frames, server int) (relayed, alone perPacket, err error) {
	var figures [2][]perPacket
	for range sinkSlices {
		for i, at := range [][2]wireEnd{b.network.generatorEnds(), b.network.serverEnds()} {
			out, err := b.runIntoSinks(ctx, f, at, server, b.options.relay/sinkSlices*2)
			if err != nil {
				return perPacket{}, perPacket{}, err
			}
			if out.packets == 0 { // the server got no processor
				continue
			}
			figures[i] = append(figures[i], perPacket{(out.generator + out.server + out.kernel) / out.packets, out.server / out.packets})
		}
	}
	for _, of := range figures {
		if len(of) == 0 {
			return perPacket{}, perPacket{}, errors.New("no packet arrived")
		}
		slices.SortFunc(of, func(a, b perPacket) int { return cmp.Compare(a.all, b.all) })
	}
	return figures[0][len(figures[0])/4], figures[1][len(figures[1])/4], nil
}

// spent is what a run has sent, how much of it has arrived at a sink, and the CPU time in microseconds that it took.
type spent struct {
	sent, packets             float64
	took                      time.Duration
	generator, server, kernel float64
}

// runIntoSinks runs the load while packets are dropped at two interfaces. server is a process group.
func (b *bench) runIntoSinks(ctx context.Context, f *frames, at [2]wireEnd, server int, d time.Duration) (out spent, err error) {
	s, err := openSinks(at)
	if err != nil {
		return spent{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	before, err := process.Kernel()
	if err != nil {
		return spent{}, err
	}
	run := func() error {
		sent, took, err := f.run(ctx, d)
		out.sent, out.took = float64(sent), took
		return err
	}
	withServer := func() error {
		used, err := process.During(server, run)
		out.server = microseconds(used.CPU)
		return err
	}
	own, err := process.During(syscall.Getpgrp(), withServer)
	if err != nil {
		return spent{}, err
	}
	after, err := process.Kernel()
	if err != nil {
		return spent{}, err
	}
	out.generator, out.kernel = microseconds(own.CPU), microseconds(after-before)
	arrived, err := s.packets()
	out.packets = float64(arrived)
	return out, err
}

func microseconds(d time.Duration) float64 { return d.Seconds() * 1e6 }
