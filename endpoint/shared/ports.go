package shared

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/mailturn/mailturn/framework/listen"
)

// Ports are all shared ports of a process.
type Ports []*Port

// At returns the port to which a listening address belongs, nil if the endpoint has its own socket.
func (ps Ports) At(addr listen.Addr) *Port {
	i := slices.IndexFunc(ps, func(p *Port) bool { return p.config.Load().Serves(addr) })
	if i < 0 {
		return nil
	}
	return ps[i]
}

// Open opens all of them, or none.
func (ps Ports) Open(ctx context.Context) error {
	for i, p := range ps {
		if err := p.Open(ctx); err != nil {
			for _, opened := range ps[:i] {
				opened.socket.Close()
			}
			return err
		}
	}
	return nil
}

// Apply replaces the configurations, which are of the same ports: see NeedsRestart.
func (ps Ports) Apply(next []Config) {
	for i, p := range ps {
		p.Apply(next[i])
	}
}

// Serve serves on all of them: see Port.
func (ps Ports) Serve() {
	for _, p := range ps {
		p.Serve()
	}
}

// Pause pauses all of them: see Port.
func (ps Ports) Pause() {
	for _, p := range ps {
		p.Pause()
	}
}

// Resume undoes Pause.
func (ps Ports) Resume() {
	for _, p := range ps {
		p.Resume()
	}
}

// StopAccepting closes all sockets in this process: see Port.
func (ps Ports) StopAccepting() {
	for _, p := range ps {
		p.StopAccepting()
	}
}

// Settle waits for all of them, for SettleTime at most: see Port.
func (ps Ports) Settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, SettleTime)
	defer cancel()
	for _, p := range ps {
		p.Settle(ctx)
	}
}

// Shutdown shuts all of them down at the same time.
func (ps Ports) Shutdown(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range ps {
		all.Go(func() { p.Shutdown(ctx) })
	}
	all.Wait()
}

// NeedsRestart returns an error that names what differs between two configurations and cannot change while the process runs.
func NeedsRestart(running, next []Config) error {
	same := slices.EqualFunc(running, next, func(a, b Config) bool { return a.Listen == b.Listen && slices.Equal(a.Endpoints, b.Endpoints) })
	if !same {
		return errors.New("changing which endpoints share a port requires mailturn upgrade or a restart")
	}
	return nil
}
