package turn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/process"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
)

// measureMemory fills new servers one after the other, then leaves all of them idle, and measures their memory.
func (b *bench) measureMemory(ctx context.Context, kinds []kind) (err error) {
	const column = "KiB/idle allocation"
	b.table.Columns = append(b.table.Columns, report.Column{Name: column, Format: "%.2f", Ratio: true})
	type filled struct {
		*running
		before int
		sample []*turnclient.Client
	}
	var servers []filled
	defer func() {
		for _, s := range servers {
			closeAll(s.sample)
			err = errors.Join(err, s.child.Stop())
		}
	}()
	for _, k := range kinds {
		fmt.Fprintf(os.Stderr, "%d idle allocations on %s\n", b.options.idle, k.name)
		s, err := b.start(ctx, k)
		if err != nil {
			return err
		}
		servers = append(servers, filled{running: s})
		f := &servers[len(servers)-1]
		if f.before, err = process.Memory(s.group); err != nil {
			return err
		}
		clients, err := b.connect(ctx, s.at.plain(), b.options.idle)
		if err != nil {
			return err
		}
		if err = b.eachClient(ctx, clients, allocate); err == nil && b.options.permission {
			err = b.eachClient(ctx, clients, permit)
		}
		if err == nil && b.options.channel {
			err = b.eachClient(ctx, clients, bind)
		}
		// Over UDP, the server does not notice that a client has gone. The clients of all servers together would need too many
		// descriptors.
		keep := min(100, len(clients))
		closeAll(clients[keep:])
		f.sample = clients[:keep]
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", s.name, err, s.log())
		}
	}
	fmt.Fprintf(os.Stderr, "leaving them alone for %v\n", b.options.settle)
	select {
	case <-time.After(b.options.settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, s := range servers {
		after, err := process.Memory(s.group)
		if err != nil {
			return err
		}
		if err := b.eachClient(ctx, s.sample, refresh); err != nil {
			return fmt.Errorf("%s has lost an allocation: %w", s.name, err)
		}
		b.table.Add(column, s.name, float64(after-s.before)/float64(b.options.idle)/1024)
	}
	return nil
}
