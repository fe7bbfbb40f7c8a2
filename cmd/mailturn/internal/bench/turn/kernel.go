package turn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/generator"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/process"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
	"github.com/mailturn/mailturn/turnsrv"
)

// kernelPathName is mailturn with the kernel path. All other rows measure mailturn without it.
const kernelPathName = "kernel path"

const (
	kernelPathOn  = `kernel_path = "on"`
	kernelPathOff = `kernel_path = "off"`
)

// kernelLoads are the loads of measureKernel.
var kernelLoads = []relayRow{
	{name: "voice", Load: voice},
	{name: "video", Load: video},
	{name: "many", Load: generator.Load{Calls: 500, PPS: 40, Burst: 1, Size: 160}},
}

// column returns the name of a column of measureKernel.
func (r relayRow) column(name string) string { return r.name + " " + name }

// measureKernel compares the kernel path with sockets and with coturn. The kernel works for packets on behalf of whoever it has
// interrupted, often the generator, so the CPU time of all of them is counted: the server's, the generator's, and that of the
// kernel's threads for packets. What the generator needs to send is measured by itself, while the server is stopped.
func (b *bench) measureKernel(ctx context.Context) error {
	if len(b.network.run) == 0 {
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
		err := b.inTurn(ctx, "kernel "+r.name, kinds, func(s *running, discard bool) error { return b.relayWithKernel(ctx, r, s, discard) })
		if err != nil {
			return err
		}
	}
	return nil
}

// relayWithKernel measures one server under one load, once.
func (b *bench) relayWithKernel(ctx context.Context, r relayRow, s *running, discard bool) error {
	whole, server, result, err := b.runWithKernel(ctx, r, s, nil)
	if err != nil || discard {
		return err
	}
	if result.Received == 0 {
		return errors.New("nothing came")
	}
	// A server that is stopped relays nothing: what arrives for it is queued, and then dropped. Nor does the kernel, because no peer
	// of these new calls has answered yet.
	sending, _, sent, err := b.runWithKernel(ctx, r, s, func(run func() error) error {
		if err := syscall.Kill(-s.group, syscall.SIGSTOP); err != nil {
			return err
		}
		defer func() { _ = syscall.Kill(-s.group, syscall.SIGCONT) }()
		return run()
	})
	if err != nil {
		return err
	}
	packets := float64(result.Received)
	alone := sending / float64(max(sent.Sent, 1)) * float64(result.Sent)
	for name, figure := range map[string]float64{
		"CPU us/packet":        (whole - alone) / packets,
		"server CPU us/packet": server / packets,
		"p50 us":               float64(result.Late.Percentile(50).Nanoseconds()) / 1000,
		"p99 us":               float64(result.Late.Percentile(99).Nanoseconds()) / 1000,
		"lost %":               100 * result.Lost(),
	} {
		b.table.Add(r.column(name), s.name, figure)
	}
	return nil
}

// runWithKernel runs a load, and returns the CPU time in microseconds of everything that it has made work, and the server's part.
// during, if not nil, calls the function that it is given.
func (b *bench) runWithKernel(ctx context.Context, r relayRow, s *running, during func(run func() error) error) (whole, server float64, result generator.Result, err error) {
	g, err := generator.New(r.Load)
	if err != nil {
		return 0, 0, result, err
	}
	defer g.Close()
	if _, err := b.call(ctx, r, s, g); err != nil {
		return 0, 0, result, err
	}
	run := func() (err error) {
		result, err = g.Run(ctx, b.options.relay)
		return err
	}
	measured := run
	if during != nil {
		measured = func() error { return during(run) }
	}
	var used process.Usage
	kernel, err := process.Kernel()
	if err != nil {
		return 0, 0, result, err
	}
	own, err := process.During(syscall.Getpgrp(), func() (err error) {
		used, err = process.During(s.group, measured)
		return err
	})
	if err != nil {
		return 0, 0, result, err
	}
	after, err := process.Kernel()
	server = used.CPU.Seconds() * 1e6
	return own.CPU.Seconds()*1e6 + server + (after-kernel).Seconds()*1e6, server, result, err
}
