package main

import (
	"fmt"
	"log/slog"

	"github.com/mailturn/mailturn/framework/module"
)

// A part is one endpoint of a setup, whatever its kind.
type part interface {
	// String returns the kind and the name, by which the part is known again in the next configuration.
	String() string
	// endpointName returns the name alone.
	endpointName() string
	// build makes the endpoint; nothing of it runs yet.
	build(*slog.Logger) (module.Endpoint, error)
	// needsRestart names what running, which an earlier part of the same String has built, cannot take over.
	needsRestart(running module.Endpoint) []string
	// reload applies the part's configuration to running.
	reload(running module.Endpoint) error
}

// reloader is an endpoint with the configuration C that can take another one while it runs.
type reloader[C any] interface {
	module.Endpoint
	Reload(C) error
}

// partOf is a part of the kind that has the configuration C and the endpoint E.
type partOf[C any, E reloader[C]] struct {
	kind, name string
	config     C
	construct  func(C, *slog.Logger) (E, error)
}

func (p partOf[C, E]) String() string { return fmt.Sprintf("endpoint %s %q", p.kind, p.name) }

func (p partOf[C, E]) endpointName() string { return p.name }

func (p partOf[C, E]) build(logger *slog.Logger) (module.Endpoint, error) {
	return p.construct(p.config, logger.With("kind", p.kind, "endpoint", p.name))
}

func (p partOf[C, E]) needsRestart(running module.Endpoint) []string {
	if e, ok := running.(interface{ NeedsRestart(C) []string }); ok {
		return e.NeedsRestart(p.config)
	}
	return nil
}

func (p partOf[C, E]) reload(running module.Endpoint) error { return running.(E).Reload(p.config) }
