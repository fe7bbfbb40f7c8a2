package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/rotation"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

const (
	// secretsFile is in the state directory. It has the secrets that the machines of a cluster have made, sealed with its key.
	secretsFile = "cluster-secrets"
	// strangersAfter is how long a relay may accept no secret of the configuration until the log says so, and strangersEvery how often this
	// machine looks.
	strangersAfter = 10 * time.Second
	strangersEvery = 2 * time.Second
)

// keeper returns the keeper of the secrets that the machines of the cluster have made.
func (r *service) keeper() *rotation.Keeper {
	if r.member.directory == nil {
		return nil
	}
	c := rotation.Config{
		Cluster: r.setup.cluster, Relays: r.member.directory.Relays, Changed: r.member.directory.Changed, Logger: r.logger,
		Publish: func(ctx context.Context, entries ...cluster.Entry) error {
			return r.member.exchange.Publish(ctx, entries...)
		},
		Claim: func(ctx context.Context, what string) (bool, error) { return r.member.exchange.Claim(ctx, what) },
	}
	if r.setup.stateDir != "" {
		c.Path = filepath.Join(r.setup.stateDir, secretsFile)
	}
	return rotation.New(c)
}

// fetchSecrets learns what the machines of the cluster have made while this one was down, before it serves. Without Redis, it has what it
// has stored.
func (r *service) fetchSecrets(ctx context.Context) {
	if r.member.keeper == nil {
		return
	}
	entries, err := r.member.exchange.Fetch(ctx)
	if err != nil {
		r.logger.Debug("no secrets from Redis before the start", "err", err) // the cluster says so if that lasts
		return
	}
	r.member.keeper.Merge(entries)
}

// longestTTL returns the longest validity of credentials that the endpoints issue, 0 if they issue none.
func (s *setup) longestTTL() (longest time.Duration) {
	for _, c := range s.issuers() {
		longest = max(longest, c.TTL.V)
	}
	return longest
}

// maxAnnounced is how many secrets a relay announces.
const maxAnnounced = 16

// own returns what the relay of this process announces, apart from its state, nil if there is none.
func (m *member) own() *cluster.Relay {
	fixed := m.fixed.Load()
	if fixed == nil || m.relay == nil { // pion accepts only the secrets of the file
		return fixed
	}
	own := *fixed
	own.Secrets = slices.Concat(m.keeper.Announced(), fixed.Secrets)
	own.Secrets = own.Secrets[:min(len(own.Secrets), maxAnnounced)]
	return &own
}

// accepted returns the secrets that the relays of this process accept, and those with which its endpoints issue credentials.
func (m *member) accepted() []credential.Secret {
	return slices.Concat(m.keeper.Ring().Accepted(), *m.secrets.Load())
}

// keepSecrets replaces secrets, and logs when a relay accepts none of the configuration, until ctx is done.
func (m *member) keepSecrets(ctx context.Context) {
	var keeping background
	keeping.start(m.keeper.Run)
	defer keeping.stop()
	ticker := time.NewTicker(strangersEvery)
	defer ticker.Stop()
	var watch strangerWatch
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		relays := m.directory.Relays()
		if len(relays) == 0 { // unknown
			continue
		}
		if names := watch.look(m.strangers(relays), time.Now()); len(names) > 0 {
			m.logger.Warn("cluster: relays accept no secret of this machine's configuration, so they refuse credentials that were issued with it", "relays", strings.Join(names, ", "),
				"fix", "put the same secret on all machines: see mailturn ctl cluster")
		}
	}
}

// strangerWatch notices when relays accept no secret of the configuration for some time. A relay that has just started may not have learned all.
type strangerWatch struct {
	since time.Time // zero while there are none
	told  bool
}

// look returns names once after there were some for a while.
func (w *strangerWatch) look(names []string, now time.Time) []string {
	switch {
	case len(names) == 0:
		*w = strangerWatch{}
	case w.since.IsZero():
		w.since = now
	case !w.told && now.Sub(w.since) >= strangersAfter:
		w.told = true
		return names
	}
	return nil
}
