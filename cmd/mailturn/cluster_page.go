package main

import (
	"slices"

	"github.com/mailturn/mailturn/endpoint/http/page"
	"github.com/mailturn/mailturn/framework/cluster"
)

// page returns what the page shows of the cluster, nil if there is none. It is safe for concurrent use.
func (m *member) page() *page.Cluster {
	report := m.report()
	if report == nil {
		return nil
	}
	shown := new(page.Cluster)
	if report.Answered != nil {
		shown.Answered = *report.Answered
	}
	for _, o := range report.Outages {
		shown.Outages = append(shown.Outages, o.String())
	}
	for _, r := range report.Relays {
		shown.Relays = append(shown.Relays, page.ClusterRelay{Relay: r, State: stateOf(r), Secrets: m.sharedSecrets(r)})
	}
	return shown
}

// sharedSecrets compares the secrets that a relay accepts with those of this machine's relay or, without one, of its issuers.
func (m *member) sharedSecrets(r cluster.Relay) page.SharedSecrets {
	if _, ok := m.secretOf(r); !ok && len(*m.secrets.Load()) > 0 {
		return page.NoSecrets
	}
	if own := m.own(); own != nil && !slices.Equal(slices.Sorted(slices.Values(own.Secrets)), slices.Sorted(slices.Values(r.Secrets))) {
		return page.DifferentSecrets
	}
	return page.SameSecrets
}
