package turn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/generator"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/process"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/stun"
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
// are dropped when they arrive at the generator's end; and what they cost if they are dropped when they arrive at the server's end
// is subtracted. A server runs only while it is measured, because the kernel path's program would cost the others a little.
func (b *bench) measureKernel(ctx context.Context) error {
	if b.network.namespace == "" {
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
	alone, err := b.generatorAlone(ctx, r, k.host)
	if err != nil {
		return err
	}
	s, err := b.start(ctx, k)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.child.Stop()) }()
	g, err := generator.New(r.Load)
	if err != nil {
		return err
	}
	defer g.Close()
	if _, err := b.call(ctx, r, s, g); err != nil {
		return err
	}
	if _, err := g.Run(ctx, b.options.relay/5); err != nil { // until the kernel relays
		return err
	}
	result, err := g.Run(ctx, b.options.relay)
	if err != nil {
		return err
	}
	out, err := b.runIntoSink(ctx, g, "", generatorEnd, s.group) // while nobody receives
	if err != nil {
		return err
	}
	if result.Received == 0 || out.packets == 0 {
		return errors.New("nothing came")
	}
	for name, figure := range map[string]float64{
		"CPU us/packet":        (out.generator+out.server+out.kernel)/out.packets - alone*out.sent/out.packets,
		"server CPU us/packet": out.server / out.packets,
		"p50 us":               float64(result.Late.Percentile(50).Nanoseconds()) / 1000,
		"p99 us":               float64(result.Late.Percentile(99).Nanoseconds()) / 1000,
		"lost %":               100 * result.Lost(),
	} {
		b.table.Add(r.column(name), s.name, figure)
	}
	return nil
}

// generatorAlone returns the CPU time, in microseconds, of a packet that is sent to a server's address and dropped when it arrives.
func (b *bench) generatorAlone(ctx context.Context, r relayRow, host netip.Addr) (float64, error) {
	g, err := generator.New(r.Load)
	if err != nil {
		return 0, err
	}
	defer g.Close()
	calls := make([]generator.Call, r.Calls)
	for i := range calls {
		calls[i] = generator.Call{
			generator.Client: {Local: b.nextClient(), Remote: netip.AddrPortFrom(host, minServerPort), Channel: stun.MinChannel + stun.ChannelNumber(i)},
			generator.Peer:   {Local: b.network.peer(i), Remote: netip.AddrPortFrom(host, maxServerPort+uint16(i))},
		}
	}
	if err := g.Enter(calls); err != nil {
		return 0, err
	}
	out, err := b.runIntoSink(ctx, g, b.network.namespace, serverEnd, 0)
	if err == nil && out.packets < 0.99*out.sent {
		err = fmt.Errorf("%.0f of %.0f packets arrived at the server's end", out.packets, out.sent)
	}
	return (out.generator + out.kernel) / max(out.sent, 1), err
}

// spent is what a run has sent, how much of it has arrived at a sink, and the CPU time in microseconds that it took.
type spent struct {
	sent, packets             float64
	took                      time.Duration
	generator, server, kernel float64
}

// runIntoSink runs the load while packets are dropped at an interface. server is a process group, or zero.
func (b *bench) runIntoSink(ctx context.Context, g *generator.Generator, namespace, name string, server int) (out spent, err error) {
	s, err := openSink(namespace, name)
	if err != nil {
		return spent{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	before, err := process.Kernel()
	if err != nil {
		return spent{}, err
	}
	run := func() error {
		result, err := g.Run(ctx, b.options.relay)
		out.sent, out.took = float64(result.Sent), result.Took
		return err
	}
	withServer := run
	if server != 0 {
		withServer = func() error {
			used, err := process.During(server, run)
			out.server = microseconds(used.CPU)
			return err
		}
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
