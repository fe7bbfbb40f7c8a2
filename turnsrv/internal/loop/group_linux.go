package loop

import (
	"slices"
	"sync"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// Group consists of loops and the threads that run them: a single thread while there is little to do, and up to one for each loop
// under load. Loops that share a thread also share its waits, which cost more than a packet. Safe for concurrent use.
type Group struct {
	loops []*Loop

	mu      sync.Mutex // guards what follows, and thread.loops and thread.share
	threads []*thread
}

// NewGroup starts n loops. If the system has no more descriptors, or lacks what loops require, it returns a group of the loops that
// it could start, and the error.
func NewGroup(n int, options Options) (*Group, error) {
	g := new(Group)
	failed := udp.Probe()
	if failed != nil {
		return g, failed
	}
	for range n {
		l, err := newLoop(options)
		if err != nil {
			failed = err
			break
		}
		l.group, l.index = g, len(g.loops)
		g.loops = append(g.loops, l)
	}
	if len(g.loops) > 0 {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.startLocked(slices.Clone(g.loops), 0, options)
	}
	return g, failed
}

// New starts a loop with a thread of its own. Close ends it.
func New(options Options) (*Loop, error) {
	g, err := NewGroup(1, options)
	if err != nil {
		return nil, err
	}
	return g.loops[0], nil
}

// Loops returns the loops.
func (g *Group) Loops() []*Loop { return g.loops }

// Threads returns the number of threads that run the loops at present.
func (g *Group) Threads() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.threads)
}

// startLocked starts a thread that runs loops. share is the share of its time for which it is expected to be busy.
func (g *Group) startLocked(loops []*Loop, share float64, options Options) {
	t := &thread{group: g, options: options, loops: loops, share: share}
	g.threads = append(g.threads, t)
	go t.run()
}

// splitLocked gives half of the work of t to a new thread.
func (g *Group) splitLocked(t *thread) {
	byRate := slices.SortedFunc(slices.Values(t.loops), func(a, b *Loop) int { return b.load.rate - a.load.rate })
	var keep, give []*Loop
	kept, given := 0, 0
	for _, l := range byRate {
		if kept <= given {
			keep, kept = append(keep, l), kept+l.load.rate+1
		} else {
			give, given = append(give, l), given+l.load.rate+1
			l.thread.Store(nil)
		}
	}
	t.loops, t.share = keep, t.share/2
	g.startLocked(give, t.share, t.options)
}

// mergeLocked gives the loops of t to another thread that has little to do, if there is one.
func (g *Group) mergeLocked(t *thread) {
	for _, other := range g.threads {
		if other != t && len(other.loops) > 0 && other.share+t.share < mergeBelow {
			for _, l := range t.loops {
				l.thread.Store(nil)
			}
			other.given = append(other.given, t.loops...)
			other.asked.Store(true)
			t.loops = nil
			other.loops[0].Post(func() {})
			return
		}
	}
}

// leaveLocked removes a thread that no longer runs any loops.
func (g *Group) leaveLocked(t *thread) {
	g.threads = slices.DeleteFunc(g.threads, func(other *thread) bool { return other == t })
}
