package module

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/mailturn/mailturn/framework/config"
)

// A Reloader is an endpoint that can apply another configuration C while it runs.
type Reloader[C any] interface {
	Endpoint
	// Prepare creates everything that c needs, such as sockets and certificates, and changes nothing for clients. On an error, it
	// leaves nothing. Otherwise the caller calls one function of the Change before any other method of the endpoint.
	//
	// Attributes that require a restart are the same in c as in the configuration in force: see NeedsRestart. Prepare is
	// called between Start and Shutdown.
	Prepare(c C) (Change, error)
}

// A Change is a configuration that an endpoint is ready to apply.
type Change struct {
	// Commit applies the configuration. It cannot fail.
	Commit func()
	// Discard releases what Prepare has created; nil if there is nothing to release.
	Discard func()
}

// A Part is an endpoint of a configuration, of any kind. NewPart returns one.
type Part interface {
	// String returns the kind and the name, which identify the part in the next configuration.
	String() string
	// Kind and Name return the two.
	Kind() string
	Name() string
	// Build creates the endpoint without starting it.
	Build(*slog.Logger) (Endpoint, error)

	needsRestart(next Part) []string
	prepare(running Endpoint) (Change, error)
}

// NewPart returns the part of that kind and name with the configuration c, which was decoded according to schema: see
// config.NeedsRestart.
func NewPart[C any, E Reloader[C]](kind, name string, schema any, c C, construct func(C, *slog.Logger) (E, error)) Part {
	return part[C, E]{kind, name, schema, c, construct}
}

type part[C any, E Reloader[C]] struct {
	kind, name string
	schema     any
	config     C
	construct  func(C, *slog.Logger) (E, error)
}

func (p part[C, E]) String() string { return fmt.Sprintf("endpoint %s %q", p.kind, p.name) }

func (p part[C, E]) Kind() string { return p.kind }

func (p part[C, E]) Name() string { return p.name }

func (p part[C, E]) Build(logger *slog.Logger) (Endpoint, error) {
	return p.construct(p.config, logger.With("kind", p.kind, "endpoint", p.name))
}

func (p part[C, E]) needsRestart(next Part) []string {
	return config.NeedsRestart(p.schema, p.config, next.(part[C, E]).config)
}

func (p part[C, E]) prepare(running Endpoint) (Change, error) { return running.(E).Prepare(p.config) }

// NeedsRestart returns an error that names the differences between the running parts and the next ones that require a restart, or
// nil if there are none.
func NeedsRestart(running, next []Part) error {
	before := make(map[string]Part)
	for _, p := range running {
		before[p.String()] = p
	}
	var errs []error
	for _, p := range next {
		old, ok := before[p.String()]
		delete(before, p.String())
		if !ok {
			errs = append(errs, fmt.Errorf("%v is new, which requires a restart", p))
		} else if names := old.needsRestart(p); len(names) > 0 {
			errs = append(errs, fmt.Errorf("%v: a change of %s requires a restart", p, strings.Join(names, ", ")))
		}
	}
	for _, p := range running {
		if _, gone := before[p.String()]; gone {
			errs = append(errs, fmt.Errorf("%v was removed, which requires a restart", p))
		}
	}
	return errors.Join(errs...)
}

// Reload applies to each running endpoint, which is found by the String of its part, the configuration of its part in next. It
// prepares all of them before it changes the first, and then changes them in the order of the parts. On an error, which names the
// part, none has changed.
func Reload(running map[string]Endpoint, next []Part) error {
	var changes []Change
	for _, p := range next {
		change, err := p.prepare(running[p.String()])
		if err != nil {
			for _, prepared := range changes {
				if prepared.Discard != nil {
					prepared.Discard()
				}
			}
			return fmt.Errorf("%v: %w", p, err)
		}
		changes = append(changes, change)
	}
	for _, change := range changes {
		change.Commit()
	}
	return nil
}
