package turn

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/process"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
)

const (
	// One relay address does not have enough ports for 100,000 allocations, so a server has several.
	scalingHosts = 3
	// scalingLines are the lines of an endpoint. With other limits on its allocations and connections, the server would require
	// more descriptors than allowed.
	scalingLines = `relay_ports = "30001-65535"
  max_connections = 10
  total_quota = %d`
	// fillStep is how many clients an address gets before it is the next one's turn.
	fillStep = 200
	// spareFiles is how many descriptors a server may need in addition to one for each allocation.
	spareFiles = 2000
)

// measureScaling measures servers with different numbers of idle allocations under the load of voice.
func (b *bench) measureScaling(ctx context.Context) error {
	var kinds []kind
	levels := make(map[string]int) // by the name
	for i, text := range split(b.options.levels) {
		level, err := strconv.Atoi(text)
		if err != nil || level < 1 {
			return fmt.Errorf("%q allocations: want a number", text)
		}
		name := text + " allocations"
		files := strconv.Itoa(level + spareFiles)
		raise := []string{"prlimit", "--nofile=" + files + ":" + files}
		if out, err := exec.CommandContext(ctx, raise[0], append(raise[1:], "true")...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s are left out: RLIMIT_NOFILE cannot be %s here: %s", name, files, out)
			continue
		}
		levels[name] = level
		var others []netip.Addr
		for j := 1; j < scalingHosts; j++ {
			others = append(others, b.network.server(scalingHosts*i+j))
		}
		command := b.mailturnAt(name, b.builds[0], kernelPathOff+"\n  "+fmt.Sprintf(scalingLines, level/scalingHosts+fillStep+2*voice.Calls), others...)
		kinds = append(kinds, kind{name: name, host: b.network.server(scalingHosts * i), command: func(dir string, at address) ([]string, error) {
			words, err := command(dir, at)
			return append(raise[:len(raise):len(raise)], words...), err
		}})
	}
	if len(kinds) == 0 || len(kinds)*scalingHosts > maxServers {
		return fmt.Errorf("want 1 to %d levels of allocations", maxServers/scalingHosts)
	}
	b.begin("voice beside idle allocations", kinds[0].name, kinds)
	r := relayRow{name: "voice", Load: voice, hangUp: true}
	const held, kernel = "MiB held", "MiB of the kernel"
	b.table.Columns = append(r.columns(), report.Column{Name: held, Format: "%.1f"}, report.Column{Name: kernel, Format: "%.1f"})
	type filled struct {
		before, slab int // memory
		since        time.Time
		oldest       []*turnclient.Client
		measured     bool
		runs         int
	}
	states := make(map[string]*filled) // by the server's name
	defer func() {
		for _, f := range states {
			closeAll(f.oldest)
		}
	}()
	return b.inTurn(ctx, scalingRow, kinds, func(s *running, discard bool) (err error) {
		f := states[s.name]
		if f == nil {
			f = &filled{slab: process.KernelMemory()}
			states[s.name] = f
			if f.before, err = process.Memory(s.group); err != nil {
				return err
			}
			if f.oldest, err = b.fill(ctx, s, levels[s.name]-r.Calls); err != nil {
				return err
			}
			f.since = time.Now()
			b.table.Add(kernel, s.name, float64(process.KernelMemory()-f.slab)/(1<<20))
		} else if !f.measured {
			f.measured = true
			select {
			case <-time.After(time.Until(f.since.Add(b.options.settle))):
			case <-ctx.Done():
				return ctx.Err()
			}
			after, err := process.Memory(s.group)
			if err != nil {
				return err
			}
			b.table.Add(held, s.name, float64(after-f.before)/(1<<20))
		}
		if err := b.relay(ctx, r, s, discard); err != nil {
			return err
		}
		if f.runs++; f.runs <= b.options.runs {
			return nil
		}
		if err := b.eachClient(ctx, f.oldest, refresh); err != nil {
			return fmt.Errorf("an allocation has been lost: %w", err)
		}
		return nil
	})
}

// fill makes idle allocations at all addresses of a server. It returns the clients of the oldest ones.
func (b *bench) fill(ctx context.Context, s *running, n int) (oldest []*turnclient.Client, err error) {
	if n > 0 {
		fmt.Fprintf(os.Stderr, "\n%s: making %d", s.name, n)
	}
	hosts := s.at.host.As4()
	for i := 0; n > 0; i++ {
		at := s.at
		at.host = netip.AddrFrom4([4]byte{hosts[0], hosts[1], hosts[2], hosts[3] + byte(i%scalingHosts)})
		clients, err := b.connect(ctx, at.plain(), min(fillStep, n))
		if err != nil {
			return oldest, err
		}
		if err = b.eachClient(ctx, clients, allocateLong); i == 0 {
			oldest = clients
		} else {
			closeAll(clients)
		}
		if err != nil {
			return oldest, err
		}
		n -= len(clients)
	}
	return oldest, nil
}
