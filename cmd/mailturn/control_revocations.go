package main

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/rotation"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/control"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// maxRevocationTime bounds the lifetime of revoked credentials. It is the default of max_credential_lifetime.
const maxRevocationTime = 366 * 24 * time.Hour

// revocationRequest is the body of POST /v1/revocations: an account, or the user name of a credential.
type revocationRequest struct {
	Account  string `json:"account,omitempty"`
	Username string `json:"username,omitempty"`
	// Lifetime is how long credentials of the account are valid, a Go duration of at most 366 days. By default, it is the longest turn_ttl of
	// the machine.
	Lifetime string `json:"lifetime,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// revocationsReport is the response to GET and POST /v1/revocations. POST returns what was revoked, and the sessions that it ended.
type revocationsReport struct {
	Revocations []revocation    `json:"revocations"`
	Ended       []sessionReport `json:"ended,omitempty"`
	// Problem says that the other machines of the cluster do not know of the change yet. It is empty if they do, or there are none.
	Problem string `json:"problem,omitempty"`
}

// listRevocations answers GET /v1/revocations.
func (o *operators) listRevocations(http.ResponseWriter, *http.Request) (any, error) {
	return revocationsReport{Revocations: o.service.bans.currentRevocations()}, nil
}

// laterBy is by how much more than a revocation lasts the credential is valid that an account gets afterwards, at most: see
// credential.Accounts.SetRevoked.
const laterBy = 2 * time.Minute

// longestRevocation returns the longest lifetime of revoked credentials with which a credential that is issued afterwards is accepted.
func (s *setup) longestRevocation() time.Duration {
	longest := maxRevocationTime
	if relay := s.relay(); relay != nil && relay.MaxLifetime > 0 {
		longest = min(longest, relay.MaxLifetime)
	}
	return max(longest-laterBy, time.Second)
}

// revocation returns what a request revokes.
func (o *operators) revocation(ctx context.Context, request revocationRequest, now time.Time) (r revocation, err error) {
	r = revocation{Username: request.Username, Made: now.Round(0), Reason: request.Reason, By: control.CallerOf(ctx).String()}
	if request.Account != "" {
		account, err := o.unmasked(ctx, request.Account)
		if err != nil {
			return r, err
		}
		r.Account = o.account(account)
	}
	if err := r.check(); err != nil {
		return r, control.Errorf(http.StatusBadRequest, "%v", err)
	}
	if r.Username != "" {
		expires, ok := credential.Expiry(r.Username)
		if !ok {
			return r, control.Errorf(http.StatusBadRequest, "%q is not the user name of an issued credential: it has no expiry", r.Username)
		}
		if r.Until = expires.Add(time.Second); !now.Before(r.Until) {
			return r, control.Errorf(http.StatusConflict, "the credential has expired already, at %v", expires)
		}
		return r, nil
	}
	var longest, limit time.Duration
	if err := o.do(ctx, func() { longest, limit = o.service.setup.longestTTL(), o.service.setup.longestRevocation() }); err != nil {
		return r, err
	}
	lifetime, err := durationOf(request.Lifetime, cmp.Or(longest, rotation.DefaultLifetime), limit)
	if err != nil {
		return r, err
	}
	r.Until = now.Add(lifetime).Truncate(time.Second)
	usernames := o.service.accounts.Usernames(r.Account)
	for _, username := range usernames { // another machine may have a longer turn_ttl
		if expires, ok := credential.Expiry(username); request.Lifetime == "" && ok && expires.After(r.Until) {
			r.Until = expires
		}
	}
	r.learn(usernames)
	return r, nil
}

// revoke answers POST /v1/revocations. The revocation is in force before running calls end, so that none of them begins again.
func (o *operators) revoke(w http.ResponseWriter, r *http.Request) (any, error) {
	var request revocationRequest
	if err := control.Read(w, r, &request); err != nil {
		return nil, err
	}
	made, err := o.revocation(r.Context(), request, time.Now())
	if err != nil {
		return nil, err
	}
	relays, err := o.relays() // before anything changes
	if err := o.clustered(err); err != nil {
		return nil, err
	}
	var entry cluster.Entry
	if err := o.inTurn(r, func() (err error) { entry, err = o.service.bans.revoke(made); return err }); err != nil {
		if errors.Is(err, errTooManyRevocations) {
			return nil, control.Errorf(http.StatusConflict, "%v", err)
		}
		return nil, refusedBan(err)
	}
	made.Until = entry.Until
	problem := o.publish(r.Context(), entry)
	ended, err := o.collectFrom(r.Context(), relays, func(ctx context.Context, relay namedRelay) ([]event.Allocation, error) {
		return relay.Disconnect(ctx, func(a event.Allocation) bool {
			return o.service.bans.list.Banned(a.Subject.Name, a.Username, a.Tuple.Client.Addr(), time.Now())
		})
	})
	o.changed(r, "credentials revoked", "account", made.Account, "username", made.Username, "reason", made.Reason, "ended", len(ended.Sessions))
	if err != nil {
		return nil, err
	}
	return revocationsReport{Revocations: []revocation{made}, Ended: ended.Sessions, Problem: problem}, nil
}
