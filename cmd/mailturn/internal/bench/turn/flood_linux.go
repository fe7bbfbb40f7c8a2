package turn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/generator"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
)

// flood is 300,000 packets a second.
var flood = relayRow{name: "flood", Load: generator.Load{Calls: 100, PPS: 1500, Burst: 50, Size: 160}}

// measureFlood measures how many packets of a flood a server relays with one processor, on which it runs, and on which the kernel
// handles what arrives for it. The generator sends on another one, and packets are dropped when they arrive at its end.
func (b *bench) measureFlood(ctx context.Context, kinds []kind) error {
	first, last, err := cpus()
	if err != nil {
		return err
	}
	leave, err := stayOn(last)
	if err != nil {
		return err
	}
	defer leave()
	if err := b.network.steer(ctx, first); err != nil {
		return err
	}
	for _, c := range []report.Column{{Name: "packets/s", Format: "%.0f", Ratio: true, Spread: true}, {Name: "lost %", Format: "%.3f"}} {
		c.Name = flood.column(c.Name)
		b.table.Columns = append(b.table.Columns, c)
	}
	b.goals[b.table] = append(b.goals[b.table], report.Goal{Column: flood.column("lost %"), Name: kernelPathName, Bound: 0})
	kinds = slices.Clone(kinds)
	for i := range kinds {
		kinds[i].cpu = &first
	}
	for i := range b.options.runs {
		fmt.Fprintf(os.Stderr, "\rkernel %s, run %d of %d ", flood.name, i+1, b.options.runs)
		for _, k := range kinds {
			if err := b.floodOnce(ctx, k); err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
		}
	}
	fmt.Fprintln(os.Stderr)
	return nil
}

// floodOnce measures one server once.
func (b *bench) floodOnce(ctx context.Context, k kind) (err error) {
	s, err := b.start(ctx, k)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.child.Stop()) }()
	g, err := generator.New(flood.Load, b.network.peers)
	if err != nil {
		return err
	}
	defer g.Close()
	calls, err := b.call(ctx, flood, s, g)
	if err != nil {
		return err
	}
	clientPort, peerPort := g.Ports()
	f, err := b.network.openFrames(flood.Load, calls, clientPort, peerPort)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if _, err := b.runIntoSinks(ctx, f, b.network.generatorEnds(), s.group, b.options.relay); err != nil { // until the kernel relays
		return err
	}
	out, err := b.runIntoSinks(ctx, f, b.network.generatorEnds(), s.group, b.options.relay)
	if err != nil {
		return err
	}
	b.table.Add(flood.column("packets/s"), s.name, out.packets/out.took.Seconds())
	b.table.Add(flood.column("lost %"), s.name, 100*max(0, 1-out.packets/out.sent))
	return nil
}

// steer makes one processor handle what arrives at the servers' ends. On a real network card, its interrupts decide that.
func (n network) steer(ctx context.Context, cpu int) error {
	// /sys shows the network interfaces of the namespace in which it was mounted.
	script := "mount -t sysfs sysfs /sys"
	for _, e := range n.serverEnds() {
		script += fmt.Sprintf(" && echo %x >/sys/class/net/%s/queues/rx-0/rps_cpus", 1<<cpu, e.name)
	}
	command := append(n.run[:len(n.run):len(n.run)], "unshare", "--mount", "sh", "-ec", script)
	if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
	}
	return nil
}
