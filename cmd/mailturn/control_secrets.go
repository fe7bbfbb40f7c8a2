package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/rotation"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/control"
)

// secretsReport is the response to GET and POST /v1/secrets. POST returns the secret that was made.
type secretsReport struct {
	// Secrets are those that the machines of the cluster have made and relays accept, the latest first. They are known by their IDs.
	Secrets []rotation.Report `json:"secrets"`
	// File are the IDs of those in the configuration of this machine.
	File []string `json:"file"`
	// Problem says that the other machines of the cluster do not know of the new secret yet. It is empty if they do.
	Problem string `json:"problem,omitempty"`
}

func (m *member) reportSecrets() secretsReport {
	report := secretsReport{Secrets: m.keeper.Report(), File: []string{}} // not null
	seen := make(map[string]bool)
	for _, secret := range *m.secrets.Load() {
		if id := cluster.SecretID(secret.Bytes()); !seen[id] {
			seen[id] = true
			report.File = append(report.File, id)
		}
	}
	return report
}

// listSecrets answers GET /v1/secrets.
func (o *operators) listSecrets(http.ResponseWriter, *http.Request) (any, error) {
	if o.service.member.directory == nil {
		return nil, errNoCluster
	}
	return o.service.member.reportSecrets(), nil
}

// rotateSecret answers POST /v1/secrets. It does so in turn, because a process that follows reads the file of the secrets.
func (o *operators) rotateSecret(_ http.ResponseWriter, r *http.Request) (any, error) {
	m := &o.service.member
	if m.directory == nil {
		return nil, errNoCluster
	}
	var id string
	var problem error
	err := o.inTurn(r, func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		id, problem, err = m.keeper.Rotate(ctx)
		return err
	})
	switch {
	case errors.Is(err, rotation.ErrNoKey), errors.Is(err, rotation.ErrRefused):
		return nil, control.Errorf(http.StatusConflict, "%v", err)
	case err != nil:
		return nil, err
	}
	o.changed(r, "secret made for the cluster", "id", id)
	report := m.reportSecrets()
	if problem != nil {
		o.logger.Warn("other machines were not told", "err", problem)
		report.Problem = untold(problem, notYetKnown)
	}
	return report, nil
}
