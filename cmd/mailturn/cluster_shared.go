package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/atomicfile"
	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/control"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// issuerFile is in the state directory. It has an issuerState.
const issuerFile = "issuer.json"

// issuerState is how the cluster knows this machine as an issuer, also after a restart.
type issuerState struct {
	ID    string `json:"id"`
	Zeros int    `json:"zeros"` // see cluster.Names
}

// exchange returns what shares bans and user names with the other machines, nil if there is no cluster.
func (r *service) exchange() *cluster.Exchange {
	if r.member.directory == nil {
		return nil
	}
	shared := cluster.Shared{Held: r.heldEntries, Apply: r.applyEntries, Happened: r.happened, Names: r.sharedNames()}
	return cluster.NewExchange(r.member.directory, r.member.incarnation, shared, r.logger)
}

// heldEntries returns what this machine has for all others.
func (r *service) heldEntries() []cluster.Entry {
	return append(r.bans.held(), r.member.keeper.Held()...)
}

// applyEntries takes what other machines have published.
func (r *service) applyEntries(entries []cluster.Entry) {
	r.member.keeper.Merge(entries)
	banned := len(r.bans.merge(entries, r.accounts.Usernames, r.logger)) > 0
	if r.bans.mergeRevoked(entries, r.accounts.Usernames, r.logger) || banned {
		r.endBanned()
	}
}

// endBanned ends the calls that a ban forbids, on all relays that have mailturn's own engine. It is safe for concurrent use.
func (r *service) endBanned() {
	r.end("ban", func(a event.Allocation) bool {
		return r.bans.list.Banned(a.Subject.Name, a.Username, a.Tuple.Client.Addr(), time.Now())
	})
}

// end ends the calls that match. The log has the reason.
func (r *service) end(reason string, match func(event.Allocation) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), inspectTimeout)
	defer cancel()
	for part, endpoint := range r.running {
		relay, ok := endpoint.(controllable)
		if !ok {
			continue
		}
		ended, err := relay.Disconnect(ctx, match)
		if err != nil {
			r.logger.Error("cluster: calls were not ended", "part", part, "reason", reason, "err", err)
		} else if len(ended) > 0 {
			r.logger.Info("cluster: calls ended", "part", part, "reason", reason, "count", len(ended))
		}
	}
}

// happened takes an event of another machine: a selector of calls to end, in JSON.
func (r *service) happened(text string) {
	var chosen selector
	if err := json.Unmarshal([]byte(text), &chosen); err != nil || !chosen.everywhere() {
		r.logger.Debug("ignoring an event of another machine", "err", err)
		return
	}
	match, err := chosen.matcher(func(name string) string { return strings.ToLower(r.names.Load().Account(name)) }, nil)
	if err != nil {
		r.logger.Debug("ignoring an event of another machine", "err", err)
		return
	}
	r.end("disconnect on another machine", match)
}

// everywhere reports whether the selector is for the calls of all machines, not only those of the one that is asked.
func (s selector) everywhere() bool { return s.Relayed == "" && (s.Account != "" || s.Network != "") }

// tell tells the other machines what an operator has asked of this one. It returns what the operator should know, empty if all is well.
func (o *operators) tell(ctx context.Context, how func(context.Context, *cluster.Exchange) error, otherwise string) (problem string) {
	if err := how(ctx, o.service.member.exchange); err != nil {
		o.logger.Warn("other machines were not told", "err", err)
		return untold(err, otherwise)
	}
	return ""
}

// untold says why the other machines were not told: Redis does not answer, or it refuses what is asked of it, for example because its
// user lacks a permission.
func untold(err error, otherwise string) string {
	if cluster.Refused(err) {
		return fmt.Sprintf("Redis refuses (%v): %s", err, otherwise)
	}
	return "Redis cannot be used: " + otherwise
}

// sharedNames returns how this machine tells the others which user names it issues, and learns theirs.
func (r *service) sharedNames() *cluster.Names {
	names := &cluster.Names{
		Zeros: -1,
		Issued: func() ([]cluster.Name, bool) {
			issued, complete := r.accounts.Issued()
			return toCluster(issued), complete
		},
		All:   func() []cluster.Name { return toCluster(r.accounts.All(time.Now())) },
		Learn: r.learn,
	}
	if names.Lifetime = r.setup.longestTTL(); names.Lifetime == 0 { // it issues none
		return names
	}
	r.accounts.Publish()
	stateDir := r.setup.stateDir // SetZeros runs on another goroutine, and a reload replaces setup
	state := r.loadIssuer(stateDir)
	names.Issuer, names.Zeros = state.ID, state.Zeros
	r.accounts.SetZeros(state.Zeros)
	names.SetZeros = func(zeros int) {
		r.accounts.SetZeros(zeros)
		if state.Zeros != zeros {
			state.Zeros = zeros
			r.storeIssuer(stateDir, state)
		}
	}
	return names
}

func toCluster(names []credential.Issued) (converted []cluster.Name) {
	for _, name := range names {
		converted = append(converted, cluster.Name(name))
	}
	return converted
}

// learn takes user names that others have issued, or an earlier process of this machine if own is set.
func (r *service) learn(names []cluster.Name, own bool) {
	learned := make([]credential.Issued, len(names))
	usernames := make(map[string][]string)
	for i, name := range names {
		learned[i] = credential.Issued(name)
		account := strings.ToLower(name.Account)
		usernames[account] = append(usernames[account], name.Username)
	}
	r.accounts.Learn(learned, own, time.Now())
	concerned := func(account string) bool { return account != "" && len(usernames[strings.ToLower(account)]) > 0 }
	if !slices.ContainsFunc(r.bans.current(), func(b banReport) bool { return concerned(b.Account) }) &&
		!slices.ContainsFunc(r.bans.currentRevocations(), func(b revocation) bool { return concerned(b.Account) }) {
		return
	}
	if err := r.bans.addUsernames(usernames); err != nil {
		r.logger.Error("cluster: after a restart, bans will not hold for the latest credentials of their accounts", "err", err)
	}
	r.endBanned() // a call may have begun before the name was known
}

// loadIssuer returns the state of issuerFile, or a new one. Without a state directory, the machine is known by its name.
func (r *service) loadIssuer(stateDir string) issuerState {
	if stateDir == "" {
		name, err := os.Hostname()
		if err != nil || name == "" {
			name = rand.Text()
		}
		return issuerState{name, -1}
	}
	text, _, err := bounded.ReadFile(filepath.Join(stateDir, issuerFile), maxReport)
	var state issuerState
	if err == nil && json.Unmarshal(text, &state) == nil && state.ID != "" && len(state.ID) <= maxBanName && state.Zeros <= credential.MaxZeros {
		return state
	}
	state = issuerState{rand.Text(), -1}
	r.storeIssuer(stateDir, state)
	return state
}

func (r *service) storeIssuer(stateDir string, state issuerState) {
	if stateDir == "" {
		return
	}
	text, err := json.Marshal(state)
	if err == nil {
		err = os.MkdirAll(stateDir, 0o700)
	}
	if err == nil {
		err = atomicfile.Replace(filepath.Join(stateDir, issuerFile), append(text, '\n'), atomicfile.Private)
	}
	if err != nil {
		r.logger.Warn("after a restart, this machine is a new issuer of its cluster", "err", err)
	}
}

// clustered returns an error if there is neither a relay nor a cluster that has one.
func (o *operators) clustered(err error) error {
	if failure, ok := errors.AsType[*control.Error](err); ok && failure.Status == http.StatusConflict && o.service.member.exchange != nil {
		return nil
	}
	return err
}
