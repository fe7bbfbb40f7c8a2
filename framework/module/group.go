// Package module defines what all endpoints have in common: starting, reloading and shutting down.
package module

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Endpoint is a configured part of the server that listens and serves, such as the IMAP or the TURN endpoint.
//
// Start binds every socket and returns once all of them listen; serving goes on in goroutines of the endpoint. If it returns an
// error, nothing of the endpoint is left running. Shutdown stops accepting, lets sessions finish until ctx is done, then ends the
// rest, and returns when every goroutine of the endpoint has ended. Ending sessions when ctx is done is not an error.
type Endpoint interface {
	Start(ctx context.Context) error
	Shutdown(ctx context.Context) error
}

// A HealthChecker is an endpoint that may be unable to serve although it runs, because something that it needs is missing. Health
// returns the reason, or nil if it can serve. It is called between Start and Shutdown, from any goroutine.
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

// Add appends an endpoint; its errors are prefixed with name.
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

// Shutdown shuts down the running endpoints in parallel, so that each has until ctx is done to let its sessions end. It returns
// when all have ended, and joins their errors.
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

// ShutdownThose is like Shutdown for the running endpoints for which those returns true. They leave the group.
func (g *Group) ShutdownThose(ctx context.Context, those func(Endpoint) bool) error {
	var ending, others Group
	for _, m := range g.members[:g.started] {
		if those(m.endpoint) {
			ending.members = append(ending.members, m)
		} else {
			others.members = append(others.members, m)
		}
	}
	ending.started, others.started = len(ending.members), len(others.members)
	*g = others
	return ending.Shutdown(ctx)
}
