package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/neighbor"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/control"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

const (
	// remoteUpgradeLimit is how long a machine may take to see a request and to upgrade itself.
	remoteUpgradeLimit = 60 * time.Second
	// remoteUpgradePoll is the time between two looks at what a machine announces.
	remoteUpgradePoll = 200 * time.Millisecond
	// maxServed is how many requests of others a process remembers, so that nobody can repeat them.
	maxServed = 100
)

// serveCluster executes the requests of other machines from now on. Call it before service.begin.
func (o *operators) serveCluster() {
	if directory := o.service.member.directory; directory != nil {
		directory.Serve(o.serveRequest)
	}
}

// serveRequest begins to execute a request to the relay of this process. It runs on the goroutine that announces.
func (o *operators) serveRequest(r cluster.Request) {
	m := &o.service.member
	authentic := slices.ContainsFunc(m.accepted(), func(secret credential.Secret) bool { return r.Authentic(secret.Bytes()) })
	switch {
	case !authentic:
		o.logger.Warn("cluster: ignoring a request that is not signed with a secret of this relay", "do", r.Do, "by", r.By)
		return
	case slices.Contains(m.served, r.ID):
		return
	}
	if m.served = append(m.served, r.ID); len(m.served) > maxServed {
		m.served = m.served[1:]
	}
	switch {
	case r.Do != cluster.Upgrade:
		m.answer(r, fmt.Errorf("this version does not know the request %q", r.Do))
		return
	case !m.allowsUpgrade.Load():
		m.answer(r, errors.New("allow_upgrade is false in its cluster block"))
		return
	}
	o.logger.Info("upgrade requested", "by", "the cluster's machine "+r.By)
	go func() {
		if _, err := o.upgradeNow(context.Background()); err != nil {
			m.answer(r, err)
		}
	}()
}

// answer announces why a request has failed.
func (m *member) answer(r cluster.Request, err error) {
	m.answered.Store(&cluster.Answer{ID: r.ID, Error: cluster.Failure(err)})
	m.directory.Changed()
}

// remoteUpgrade is the body of POST /v1/cluster/upgrade.
type remoteUpgrade struct {
	Name string `json:"name"` // of a relay on another machine
}

// remoteUpgraded is the response to it.
type remoteUpgraded struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Former is the version before.
	Former string `json:"former"`
}

// upgradeOther answers POST /v1/cluster/upgrade: it asks the machine of a relay for an upgrade, waits until another process serves
// there, and probes it.
func (o *operators) upgradeOther(w http.ResponseWriter, r *http.Request) (any, error) {
	var request remoteUpgrade
	if err := control.Read(w, r, &request); err != nil {
		return nil, err
	}
	m := &o.service.member
	if m.directory == nil {
		return nil, errNoCluster
	}
	before, err := m.relayNamed(request.Name)
	if err != nil {
		return nil, control.Errorf(http.StatusNotFound, "%v", err)
	}
	if before.Own {
		return nil, control.Errorf(http.StatusConflict, "%s is the relay of this machine: use mailturn upgrade", before.Name)
	}
	secret, ok := m.secretOf(before)
	if !ok {
		return nil, control.Errorf(http.StatusConflict, "%s: %v", before.Name, errNoSecret)
	}
	asked := cluster.NewRequest(cluster.Upgrade, m.machineName(), before, secret.Bytes())
	o.changed(r, "upgrade of another machine requested", "name", before.Name, "server", before.Server)
	if err := m.directory.Ask(r.Context(), asked); err != nil {
		return nil, control.Errorf(http.StatusBadGateway, "ask through Redis: %v", err)
	}
	after, err := m.awaitUpgrade(r.Context(), before, asked.ID)
	if err != nil {
		return nil, control.Errorf(http.StatusConflict, "%s: %v", before.Name, err)
	}
	if err := neighbor.Probe(r.Context(), after, secret, m.machineName()); err != nil {
		return nil, control.Errorf(http.StatusConflict, "%s was upgraded to %s, but cannot be used from here: %v", after.Name, after.Version, err)
	}
	return remoteUpgraded{after.Name, after.Version, before.Version}, nil
}

// awaitUpgrade waits until another incarnation of a relay accepts what the one before accepted, and returns it.
func (m *member) awaitUpgrade(ctx context.Context, before cluster.Relay, id string) (cluster.Relay, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, remoteUpgradeLimit, fmt.Errorf("it did not upgrade within %v", remoteUpgradeLimit))
	defer cancel()
	poll := time.NewTicker(remoteUpgradePoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return before, context.Cause(ctx)
		case <-poll.C:
		}
		now, err := m.relayNamed(before.Name)
		switch {
		case err != nil: // it may be back soon
		case now.Incarnation != before.Incarnation && (now.Refuses == "" || now.Refuses == before.Refuses):
			return now, nil
		case now.Answer != nil && now.Answer.ID == id:
			return now, errors.New(now.Answer.Error)
		}
	}
}

// relayNamed returns a relay of the cluster that is alive.
func (m *member) relayNamed(name string) (cluster.Relay, error) {
	relays := m.directory.Relays()
	at := slices.IndexFunc(relays, func(r cluster.Relay) bool { return r.Name == name })
	if at < 0 {
		return cluster.Relay{}, fmt.Errorf("no relay of the cluster has the name %q: see mailturn ctl cluster", name)
	}
	return relays[at], nil
}
