package turn

import (
	"context"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/process"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
)

// measureAllocate lets clients that are new to the server allocate, and then end their allocations.
func (b *bench) measureAllocate(ctx context.Context, kinds []kind) error {
	b.table.Columns = append(b.table.Columns,
		report.Column{Name: "allocations/s", Format: "%.0f", Ratio: true, Spread: true},
		report.Column{Name: "CPU us/allocation", Format: "%.0f", Ratio: true, Spread: true},
		report.Column{Name: "CPU us/cycle", Format: "%.0f", Ratio: true, Spread: true},
	)
	return b.inTurn(ctx, allocateRow, kinds, func(s *running, discard bool) error { return b.allocations(ctx, s, discard) })
}

func (b *bench) allocations(ctx context.Context, s *running, discard bool) error {
	clients, err := b.connect(ctx, s.at.plain(), b.options.clients)
	if err != nil {
		return err
	}
	defer closeAll(clients)
	var took time.Duration
	made, err := process.During(s.group, func() error {
		begin := time.Now()
		defer func() { took = time.Since(begin) }()
		return b.eachClient(ctx, clients, allocate)
	})
	if err != nil {
		return err
	}
	ended, err := process.During(s.group, func() error { return b.eachClient(ctx, clients, end) })
	if err != nil || discard {
		return err
	}
	n := float64(len(clients))
	b.table.Add("allocations/s", s.name, n/took.Seconds())
	b.table.Add("CPU us/allocation", s.name, made.CPU.Seconds()*1e6/n)
	b.table.Add("CPU us/cycle", s.name, (made.CPU+ended.CPU).Seconds()*1e6/n)
	return nil
}
