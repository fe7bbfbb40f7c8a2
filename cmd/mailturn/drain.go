package main

import (
	"context"
	"sync"
	"time"
)

// alternatesPeriod is the time between two lookups of the other relays during a drain.
const alternatesPeriod = time.Minute

// setDraining makes the issuers leave out the relay of this process if there are others, /readyz fail, and then the relays refuse new
// calls, or takes that back. It is safe for concurrent use.
func (r *service) setDraining(draining bool) {
	r.draining.Store(draining)
	r.member.directory.Changed()
	if draining {
		r.look.start(r.followAlternates)
	} else {
		r.look.stop()
	}
	for _, endpoint := range r.running {
		if relay, ok := endpoint.(controllable); ok {
			relay.SetDraining(draining)
		}
	}
}

// followAlternates keeps the addresses of the other relays, to which clients are sent.
func (r *service) followAlternates(ctx context.Context) {
	again := time.NewTicker(alternatesPeriod)
	defer again.Stop()
	for {
		lookup, cancel := context.WithTimeout(ctx, lookUpTimeout)
		err := r.alternates.Look(lookup, lookUp)
		cancel()
		if err != nil && ctx.Err() == nil {
			r.logger.Warn("clients are not sent to a relay whose name has no address", "err", err)
		}
		select {
		case <-again.C:
		case <-r.alternates.Changed():
		case <-ctx.Done():
			return
		}
	}
}

// background is a goroutine that can be started and stopped repeatedly. Its methods are safe for concurrent use.
type background struct {
	mu     sync.Mutex
	cancel context.CancelFunc // nil while it does not run
	done   chan struct{}
}

// start starts f unless it runs already. f returns when its context is done.
func (b *background) start(f func(context.Context)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel, b.done = cancel, make(chan struct{})
	go func() {
		defer close(b.done)
		f(ctx)
	}()
}

// stop waits until it has ended.
func (b *background) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cancel != nil {
		b.cancel()
		<-b.done
		b.cancel = nil
	}
}
