package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/neighbor"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// watchNeighbors returns the Watch of the relays that this process probes.
func (m *member) watchNeighbors(logger *slog.Logger) *neighbor.Watch {
	return &neighbor.Watch{
		Neighbors: func() []cluster.Relay {
			own := m.own()
			if own == nil {
				return nil
			}
			return cluster.Neighbors(*own, m.directory.Relays())
		},
		Probe:   m.probe,
		Changed: m.directory.Changed,
		Logger:  logger,
	}
}

// errNoSecret is returned by probe for a relay that accepts no secret of this process.
var errNoSecret = errors.New("it accepts no secret of this machine")

// probe probes a relay of the cluster. It is safe for concurrent use.
func (m *member) probe(ctx context.Context, r cluster.Relay) error {
	secret, ok := m.secretOf(r)
	if !ok {
		return errNoSecret
	}
	return neighbor.Probe(ctx, r, secret, m.name())
}

// name returns the name of this process's relay, empty if it has none.
func (m *member) name() string {
	if fixed := m.fixed.Load(); fixed != nil {
		return fixed.Name
	}
	return ""
}

// machineName returns the name of this process's relay, or that of the machine.
func (m *member) machineName() string {
	if name := m.name(); name != "" {
		return name
	}
	name, _ := os.Hostname()
	return name
}

// secretOf returns a secret that a relay accepts.
func (m *member) secretOf(r cluster.Relay) (credential.Secret, bool) {
	return acceptedBy(r, m.accepted())
}

// acceptedBy returns the first of several secrets that a relay accepts.
func acceptedBy(r cluster.Relay, secrets []credential.Secret) (credential.Secret, bool) {
	for _, secret := range secrets {
		if slices.Contains(r.Secrets, cluster.SecretID(secret.Bytes())) {
			return secret, true
		}
	}
	return credential.Secret{}, false
}

// strangers returns the names of the relays that accept none of the secrets of this file, if it has any. One that machines have made is
// not enough: programs that issue credentials themselves use that of the file.
func (m *member) strangers(relays []cluster.Relay) (names []string) {
	secrets := *m.secrets.Load()
	if len(secrets) == 0 {
		return nil
	}
	for _, r := range relays {
		if _, ok := acceptedBy(r, secrets); !ok {
			names = append(names, r.Name)
		}
	}
	return names
}

// secrets returns the secrets of the first relay and those with which the endpoints issue credentials. Call it after prepare.
func (s *setup) secrets() (all []credential.Secret) {
	if len(s.relays) > 0 {
		all = append(all, s.relays[0].Secrets...)
	}
	for _, c := range s.issuers() {
		all = append(all, c.Secrets.V...)
		for _, r := range c.Relays {
			all = append(all, r.Secrets.V...)
		}
	}
	return all
}
