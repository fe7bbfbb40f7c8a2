package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/mailturn/mailturn/endpoint/imap"
	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/module"
)

// service is a setup that runs. It belongs to the goroutine of serve.
type service struct {
	logger *slog.Logger
	setup  *setup
	group  module.Group
	relays map[string]*turn.Endpoint // by name
	imaps  map[string]*imap.Endpoint
}

// newService builds the endpoints: the relay first, so that nobody is told of one that is not there yet.
func newService(s *setup, logger *slog.Logger) (*service, error) {
	r := &service{logger: logger, setup: s, relays: make(map[string]*turn.Endpoint), imaps: make(map[string]*imap.Endpoint)}
	for _, c := range s.relays {
		endpoint, err := turn.New(c, logger.With("kind", "turn", "endpoint", c.Name))
		if err != nil {
			return nil, fmt.Errorf("endpoint turn %q: %w", c.Name, err)
		}
		r.relays[c.Name] = endpoint
		r.group.Add(fmt.Sprintf("endpoint turn %q", c.Name), endpoint)
	}
	for _, c := range s.imaps {
		endpoint, err := imap.New(c, logger.With("kind", "imap", "endpoint", c.Name))
		if err != nil {
			return nil, fmt.Errorf("endpoint imap %q: %w", c.Name, err)
		}
		r.imaps[c.Name] = endpoint
		r.group.Add(fmt.Sprintf("endpoint imap %q", c.Name), endpoint)
	}
	return r, nil
}

// reload reads the configuration again and applies it. One that does not load, or that changes what needs a new start,
// changes nothing.
func (r *service) reload(again func() (*setup, error)) {
	if again == nil {
		r.logger.Info("nothing to reload: there is no configuration file")
		return
	}
	s, err := again()
	if err == nil {
		err = s.prepareAndSay(r.logger)
	}
	if err == nil {
		err = r.apply(s)
	}
	switch {
	case errors.Is(err, errReported):
		r.logger.Error("configuration not reloaded: it has errors, the old one stays")
	case err != nil:
		r.logger.Error("configuration not reloaded: the old one stays", "err", err)
	default:
		r.logger.Info("reloaded")
	}
}

// apply changes the endpoints, the relays first: they have to accept a new secret before an IMAP endpoint issues under it.
func (r *service) apply(s *setup) error {
	if err := r.needsRestart(s); err != nil {
		return err
	}
	for _, c := range s.relays {
		if err := r.relays[c.Name].Reload(c); err != nil {
			return fmt.Errorf("endpoint turn %q: %w", c.Name, err)
		}
	}
	for _, c := range s.imaps {
		if err := r.imaps[c.Name].Reload(c); err != nil {
			return fmt.Errorf("endpoint imap %q: %w", c.Name, err)
		}
	}
	r.setup = s
	return nil
}

// needsRestart returns an error that names what in s only a new start can bring.
func (r *service) needsRestart(s *setup) error {
	var errs []error
	kept := make(map[string]bool)
	for _, c := range s.relays {
		kept["turn "+c.Name] = true
		if endpoint, ok := r.relays[c.Name]; !ok {
			errs = append(errs, fmt.Errorf("endpoint turn %q is new and needs a new start", c.Name))
		} else if names := endpoint.NeedsRestart(c); len(names) > 0 {
			errs = append(errs, fmt.Errorf("endpoint turn %q: a change of %s needs a new start", c.Name, strings.Join(names, ", ")))
		}
	}
	for _, c := range s.imaps {
		kept["imap "+c.Name] = true
		if _, ok := r.imaps[c.Name]; !ok {
			errs = append(errs, fmt.Errorf("endpoint imap %q is new and needs a new start", c.Name))
		}
	}
	for _, c := range r.setup.relays {
		if !kept["turn "+c.Name] {
			errs = append(errs, fmt.Errorf("endpoint turn %q is gone, which needs a new start", c.Name))
		}
	}
	for _, c := range r.setup.imaps {
		if !kept["imap "+c.Name] {
			errs = append(errs, fmt.Errorf("endpoint imap %q is gone, which needs a new start", c.Name))
		}
	}
	return errors.Join(errs...)
}
