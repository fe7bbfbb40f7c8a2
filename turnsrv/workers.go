package turnsrv

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/mailturn/mailturn/turnsrv/internal/loop"
)

// workers are the event loops of a server, which its links share. Safe for concurrent use.
type workers struct {
	group *loop.Group // empty if there are none on this system

	mu   sync.Mutex
	next map[string]int // by the local address of a socket: number of the worker for the next socket
}

// DefaultWorkers returns the number of workers of a server whose Config.Workers is zero: one for each processor. Workers that have
// little to do share a thread.
func DefaultWorkers() int { return runtime.NumCPU() }

// newWorkers starts the workers that config asks for.
func newWorkers(config Config) *workers {
	w := &workers{group: new(loop.Group), next: make(map[string]int)}
	n := config.Workers
	if n == 0 {
		n = DefaultWorkers()
	}
	if n < 0 || !config.Relay.CanLoop() {
		return w
	}
	options := loop.Options{
		Gather: max(config.Gather, 0), Unannounced: runtime.GOMAXPROCS(0) > n, Segment: !config.NoSegment, Coalesce: !config.NoCoalesce,
		Panicked: func(value any, stack []byte) {
			config.Logger.Error("a worker panicked and continues", "panic", fmt.Sprint(value), "stack", string(stack))
		},
	}
	options, lacking := options.Supported()
	group, err := loop.NewGroup(n, options)
	switch started := len(group.Loops()); {
	case err != nil && started == 0:
		config.Logger.Warn("cannot start workers: goroutines serve the clients, which takes more CPU time", "err", err)
	case err != nil:
		config.Logger.Warn("cannot start all workers", "started", started, "wanted", n, "err", err)
	case lacking != nil && started > 0:
		config.Logger.Info("the system lacks options that save CPU time", "err", lacking)
	}
	w.group = group
	return w
}

// worker returns the worker for a socket with the given local address, or nil if there are no workers. Sockets with the same
// address get different ones.
func (w *workers) worker(local string) *loop.Loop {
	w.mu.Lock()
	defer w.mu.Unlock()
	loops := w.group.Loops()
	if len(loops) == 0 {
		return nil
	}
	n := w.next[local]
	w.next[local] = n + 1
	return loops[n%len(loops)]
}

func (w *workers) close() {
	for _, l := range w.group.Loops() {
		l.Close()
	}
}
