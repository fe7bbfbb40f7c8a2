// Package module holds what every endpoint has in common: it is started, it serves, it is shut down.
package module

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Endpoint is a configured part of the server that listens and serves, such as the IMAP or the TURN endpoint.
//
// Start binds every socket and returns once all of them listen; serving goes on in goroutines of the endpoint.
// When it returns an error, nothing of the endpoint is left running. Shutdown stops accepting, lets what is busy
// finish until ctx is done, then ends the rest, and returns when every goroutine of the endpoint has ended. To have ended
// something is no error: whoever asked knew the time.
type Endpoint interface {
	Start(ctx context.Context) error
	Shutdown(ctx context.Context) error
}

// A HealthChecker is an endpoint that may be unable to serve although it runs, because something that it needs is gone. Health
// returns why; nil if all is well. It is called between Start and Shutdown, from any goroutine.
type HealthChecker interface {
	Health() error
}

// Group starts endpoints in the order in which they were added and shuts them down together.
// The zero value is an empty group. It is not safe for concurrent use.
type Group struct {
	members []member
	started int
}

type member struct {
	name     string
	endpoint Endpoint
}

// Add appends an endpoint; name stands in front of its errors.
func (g *Group) Add(name string, endpoint Endpoint) {
	g.members = append(g.members, member{name, endpoint})
}

// Start starts the endpoints in order. When one fails, those already running are shut down again, and the error names the
// endpoint that failed.
func (g *Group) Start(ctx context.Context) error {
	for _, m := range g.members {
		if err := m.endpoint.Start(ctx); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", m.name, err), g.Shutdown(ctx))
		}
		g.started++
	}
	return nil
}

// Shutdown shuts down the endpoints that run, all at once, so that each has all of ctx's time to let its sessions end. It
// returns when all have ended, and joins their errors.
func (g *Group) Shutdown(ctx context.Context) error {
	errs := make([]error, g.started)
	var ending sync.WaitGroup
	for i, m := range g.members[:g.started] {
		ending.Go(func() {
			if err := m.endpoint.Shutdown(ctx); err != nil {
				errs[i] = fmt.Errorf("%s: %w", m.name, err)
			}
		})
	}
	ending.Wait()
	g.started = 0
	return errors.Join(errs...)
}
