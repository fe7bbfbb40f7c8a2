package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/mailturn/mailturn/framework/module"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// service is a setup that runs. It belongs to the goroutine of serve.
type service struct {
	logger  *slog.Logger
	setup   *setup
	group   module.Group
	running map[string]module.Endpoint // by the String of its part

	accounts credential.Accounts // outlives reloads: credentials do
}

// newService builds the endpoints.
func newService(s *setup, logger *slog.Logger) (*service, error) {
	r := &service{logger: logger, setup: s, running: make(map[string]module.Endpoint)}
	s.share(&r.accounts)
	for _, p := range s.parts() {
		endpoint, err := p.build(logger)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", p, err)
		}
		r.running[p.String()] = endpoint
		r.group.Add(p.String(), endpoint)
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

// apply changes the endpoints in the order of their parts.
func (r *service) apply(s *setup) error {
	if err := r.needsRestart(s); err != nil {
		return err
	}
	s.share(&r.accounts)
	for _, p := range s.parts() {
		if err := p.reload(r.running[p.String()]); err != nil {
			return fmt.Errorf("%v: %w", p, err)
		}
	}
	r.setup = s
	return nil
}

// needsRestart returns an error that names what in s only a new start can bring.
func (r *service) needsRestart(s *setup) error {
	var errs []error
	kept := make(map[string]bool)
	for _, p := range s.parts() {
		kept[p.String()] = true
		if endpoint, ok := r.running[p.String()]; !ok {
			errs = append(errs, fmt.Errorf("%v is new and needs a new start", p))
		} else if names := p.needsRestart(endpoint); len(names) > 0 {
			errs = append(errs, fmt.Errorf("%v: a change of %s needs a new start", p, strings.Join(names, ", ")))
		}
	}
	for _, p := range r.setup.parts() {
		if !kept[p.String()] {
			errs = append(errs, fmt.Errorf("%v is gone, which needs a new start", p))
		}
	}
	return errors.Join(errs...)
}
