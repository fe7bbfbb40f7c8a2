package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/control"
	"github.com/mailturn/mailturn/turnsrv/event"
)

const (
	defaultBanTime = 24 * time.Hour
	maxBanTime     = 366 * 24 * time.Hour
)

// banRequest is the body of POST /v1/bans and DELETE /v1/bans: an account, or a network or address.
type banRequest struct {
	Account string `json:"account,omitempty"`
	Network string `json:"network,omitempty"`
	// For is a Go duration of at most 366 days, by default a day. Reason is for the list. DELETE ignores both.
	For    string `json:"for,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// bansReport is the response to GET, POST and DELETE /v1/bans. POST returns the ban that was made, and the sessions that it ended.
type bansReport struct {
	Bans  []banReport     `json:"bans"`
	Ended []sessionReport `json:"ended,omitempty"`
	// Problem says that the other machines of the cluster do not know of the change yet. It is empty if they do, or there are none.
	Problem string `json:"problem,omitempty"`
}

// notYetKnown is the problem of a change to bans while Redis cannot be used.
const notYetKnown = "other machines will learn of this when it can."

// ban returns what a request bans, without its times.
func (o *operators) ban(ctx context.Context, request banRequest) (banReport, error) {
	switch {
	case (request.Account == "") == (request.Network == ""):
		return banReport{}, control.Errorf(http.StatusBadRequest, "want an account, or a network or address")
	case len(request.Account) > maxBanName:
		return banReport{}, control.Errorf(http.StatusBadRequest, "the name of the account has more than %d bytes", maxBanName)
	case len(request.Reason) > maxBanReason:
		return banReport{}, control.Errorf(http.StatusBadRequest, "the reason has more than %d bytes", maxBanReason)
	case request.Account != "":
		account, err := o.unmasked(ctx, request.Account)
		return banReport{Account: o.account(account), Reason: request.Reason}, err
	}
	network, err := parseNetwork(request.Network)
	if err != nil {
		return banReport{}, control.Errorf(http.StatusBadRequest, "%v", err)
	}
	return banReport{Network: network.String(), Reason: request.Reason}, nil
}

// listBans answers GET /v1/bans.
func (o *operators) listBans(http.ResponseWriter, *http.Request) (any, error) {
	return bansReport{Bans: o.service.bans.current()}, nil
}

// makeBan answers POST /v1/bans. The ban is in force before running calls end, so that none of them begins again.
func (o *operators) makeBan(w http.ResponseWriter, r *http.Request) (any, error) {
	var request banRequest
	if err := control.Read(w, r, &request); err != nil {
		return nil, err
	}
	d, err := durationOf(request.For, defaultBanTime, maxBanTime)
	if err != nil {
		return nil, err
	}
	made, err := o.ban(r.Context(), request)
	if err != nil {
		return nil, err
	}
	relays, err := o.relays() // before anything changes
	if err := o.clustered(err); err != nil {
		return nil, err
	}
	now := time.Now()
	made.Made, made.Until = now.Round(0), now.Add(d).Round(0)
	made.By = control.CallerOf(r.Context()).String()
	made.Usernames = latestUsernames(o.service.accounts.Usernames(made.Account), nil)
	var entry cluster.Entry
	if err := o.inTurn(r, func() (err error) { entry, err = o.service.bans.add(made); return err }); err != nil {
		return nil, refusedBan(err)
	}
	problem := o.publish(r.Context(), entry)
	ended, err := o.collectFrom(r.Context(), relays, func(ctx context.Context, relay namedRelay) ([]event.Allocation, error) {
		return relay.Disconnect(ctx, func(a event.Allocation) bool {
			return o.service.bans.list.Banned(a.Subject.Name, a.Username, a.Tuple.Client.Addr(), time.Now())
		})
	})
	o.changed(r, "banned", "account", made.Account, "network", made.Network, "until", made.Until, "reason", made.Reason,
		"ended", len(ended.Sessions))
	if err != nil {
		return nil, err
	}
	return bansReport{Bans: []banReport{made}, Ended: ended.Sessions, Problem: problem}, nil
}

// publish tells the other machines of a ban, or that one was lifted.
func (o *operators) publish(ctx context.Context, entry cluster.Entry) (problem string) {
	return o.tell(ctx, func(ctx context.Context, x *cluster.Exchange) error { return x.Publish(ctx, entry) }, notYetKnown)
}

// liftBan answers DELETE /v1/bans with the bans that are left.
func (o *operators) liftBan(w http.ResponseWriter, r *http.Request) (any, error) {
	var request banRequest
	if err := control.Read(w, r, &request); err != nil {
		return nil, err
	}
	lifted, err := o.ban(r.Context(), request)
	if err != nil {
		return nil, err
	}
	var entry cluster.Entry
	if err := o.inTurn(r, func() (err error) { entry, err = o.service.bans.lift(lifted.target()); return err }); err != nil {
		return nil, refusedBan(err)
	}
	problem := o.publish(r.Context(), entry)
	o.changed(r, "ban lifted", "account", lifted.Account, "network", lifted.Network)
	return bansReport{Bans: o.service.bans.current(), Problem: problem}, nil
}

// refusedBan returns the error response for an error of bans.
func refusedBan(err error) error {
	switch {
	case errors.Is(err, errNoBan):
		return control.Errorf(http.StatusNotFound, "%v", err)
	case errors.Is(err, errTooManyBans), errors.Is(err, errNoStateDir):
		return control.Errorf(http.StatusConflict, "%s", strings.ReplaceAll(err.Error(), "generated secret and certificate", "bans"))
	}
	return err
}
