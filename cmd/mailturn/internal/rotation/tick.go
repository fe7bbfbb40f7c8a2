package rotation

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
)

const (
	// tickEvery is how often a Keeper looks at what relays announce.
	tickEvery = 500 * time.Millisecond
	// settleTime is how long Redis has to have answered, and a relay to have been gone, for the relays that are known to be all. After Redis
	// has lost everything, or was away, relays announce themselves one after the other.
	settleTime = 6 * time.Second
	// maxSeen bounds the relays that are remembered.
	maxSeen = 2000
	// overdueAfter is how long a relay may take to accept a secret until the log says so.
	overdueAfter = 5 * time.Minute
	// stalledAfter is for how long the secret may have been due until the log says so.
	stalledAfter = 24 * time.Hour
	// clockSlack is by how much the clock of the machine that has made a secret may be ahead. Otherwise its age is unknown.
	clockSlack = time.Hour
)

// Run does what is due, until ctx is done.
func (k *Keeper) Run(ctx context.Context) {
	if k == nil {
		return
	}
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			k.tick(ctx)
		}
	}
}

// tick does what is due. One machine does what concerns all: that of the first relay which accepts the latest secret.
func (k *Keeper) tick(ctx context.Context) {
	relays, now := k.config.Relays(), time.Now()
	k.mu.Lock()
	k.see(relays, now)
	changed := k.expire(now)
	var told []cluster.Entry
	for i := range k.held {
		if k.improve(&k.held[i], i, relays, now) {
			k.held[i].stamp = cluster.NextStamp(now, k.held[i].stamp)
			told = append(told, k.held[i].entry())
		}
	}
	if changed = changed || len(told) > 0; changed {
		k.changed()
	}
	k.wait(relays, now)
	due, claim, since := k.due(relays, now)
	k.mu.Unlock()
	if changed {
		k.config.Changed()
	}
	limited, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	if len(told) > 0 {
		_ = k.config.Publish(limited, told...) // or with everything that is held
	}
	if !due {
		return
	}
	switch first, err := k.config.Claim(limited, claim); {
	case err != nil: // which the log says if it lasts
		return
	case !first:
		k.stall(since, now)
		return
	}
	id, _, err := k.rotateTo(ctx, maxScheduled)
	if err != nil {
		k.config.Logger.Warn("cluster: the secret is not replaced as secret_rotation says", "err", err)
		return
	}
	k.config.Logger.Info("cluster: made a new secret, as secret_rotation says", "id", id)
}

// improve changes the secret at i of those held if that is due, and reports whether it has.
func (k *Keeper) improve(s *Secret, i int, relays []cluster.Relay, now time.Time) (changed bool) {
	if s.Ends.IsZero() && s.Lifetime < k.settings.Lifetime {
		s.Lifetime, changed = k.settings.Lifetime, true
	}
	if !k.leads(relays) {
		return changed
	}
	latest, current := len(k.held)-1, k.current()
	switch {
	case i == latest && s.Issued.IsZero() && now.Sub(k.known) >= settleTime && len(k.lacking(s.ID)) == 0:
		s.Issued = now.UTC().Truncate(time.Second)
		k.config.Logger.Info("cluster: all relays accept the new secret, so machines issue with it", "id", s.ID)
		return true
	case i < current && s.Ends.IsZero():
		s.replace(now)
		return true
	case s.Ends.IsZero() && s.lease.Sub(now) < leaseTime/2:
		s.lease = now.UTC().Truncate(time.Second).Add(leaseTime)
		return true
	}
	return changed
}

// leads reports whether the first relay that accepts the latest secret is of this process.
func (k *Keeper) leads(relays []cluster.Relay) bool {
	if len(k.held) == 0 {
		return false
	}
	latest := k.held[len(k.held)-1].ID
	i := slices.IndexFunc(relays, func(r cluster.Relay) bool { return slices.Contains(r.Secrets, latest) })
	return i >= 0 && relays[i].Own
}

// sighting is what a relay has announced last, and when that was seen.
type sighting struct {
	at      time.Time
	secrets []string
}

// see remembers which relays are alive.
func (k *Keeper) see(relays []cluster.Relay, now time.Time) {
	if len(relays) == 0 {
		k.known, k.seen = time.Time{}, nil
		return
	}
	if k.known.IsZero() {
		k.known, k.seen = now, make(map[string]sighting)
	}
	maps.DeleteFunc(k.seen, func(_ string, s sighting) bool { return now.Sub(s.at) >= settleTime })
	for _, r := range relays {
		if _, ok := k.seen[r.Name]; ok || len(k.seen) < maxSeen {
			k.seen[r.Name] = sighting{now, r.Secrets}
		}
	}
}

// lacking returns the names of the relays that do not accept a secret.
func (k *Keeper) lacking(id string) (names []string) {
	for name, s := range k.seen {
		if !slices.Contains(s.secrets, id) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// wait logs that a relay does not accept the latest secret, if that lasts.
func (k *Keeper) wait(relays []cluster.Relay, now time.Time) {
	if len(k.held) == 0 {
		return
	}
	latest := k.held[len(k.held)-1]
	if !latest.Issued.IsZero() {
		return
	}
	if k.waiting != latest.ID {
		k.waiting, k.since = latest.ID, now
	}
	tells := k.leads(relays) || k.made == latest.ID // if no relay accepts it, none leads
	if names := k.lacking(latest.ID); tells && len(names) > 0 && now.Sub(k.since) >= overdueAfter && k.overdue != latest.ID {
		k.overdue = latest.ID
		k.config.Logger.Warn("cluster: no machine issues with the new secret, because a relay does not accept it", "id", latest.ID,
			"relays", strings.Join(names, ", "), "fix", "upgrade mailturn there, or set cluster.key as on the other machines")
	}
}

// due reports whether the secret has to be replaced, what to claim before, and since when. A claim lasts an hour, so Rotate is tried again
// once an hour while it refuses, which the log then says. A machine that does not know yet what the others have, or knows no relay,
// replaces nothing.
func (k *Keeper) due(relays []cluster.Relay, now time.Time) (due bool, claim string, since time.Time) {
	if k.settings.Every == 0 || !k.synced || len(relays) == 0 {
		return false, "", since
	}
	if len(k.held) == 0 {
		return true, "the first secret", k.known
	}
	latest := k.held[len(k.held)-1]
	age := now.Sub(latest.Made)
	if latest.Issued.IsZero() {
		return false, "", since
	}
	if due = age >= k.settings.Every || age < -clockSlack; !due {
		k.stalled = false
	}
	return due, "the secret after " + latest.ID, latest.Made.Add(k.settings.Every)
}

// stall logs that the secret has been due for long, and another machine has claimed to replace it.
func (k *Keeper) stall(since, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stalled || now.Sub(since) < stalledAfter || len(k.held) >= maxScheduled { // the log of the other machine says the latter
		return
	}
	k.stalled = true
	k.config.Logger.Warn("cluster: no machine replaces the secret as secret_rotation says", "due", since,
		"fix", "run mailturn ctl secret rotate, and delete the claims hash of the cluster in Redis if this happens again")
}

// States of a secret.
const (
	Waiting  = "waiting"  // until all relays accept it
	Issuing  = "issuing"  // machines issue with it
	Replaced = "replaced" // they do not any more
)

// A Report is what a Keeper says of a secret. It does not contain the secret itself.
type Report struct {
	ID    string     `json:"id"`
	State string     `json:"state"`
	Made  time.Time  `json:"made"`
	Until *time.Time `json:"until,omitempty"` // when it ends, if it was replaced
	// Lacking are the relays that do not accept it, if machines do not issue with it yet.
	Lacking []string `json:"lacking,omitempty"`
}

// Report returns what the Keeper knows, the latest secret first.
func (k *Keeper) Report() []Report {
	reports := []Report{} // not null
	if k == nil {
		return reports
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, s := range slices.Backward(k.held) {
		report := Report{ID: s.ID, Made: s.Made, State: Replaced}
		switch {
		case !s.Ends.IsZero():
			report.Until = &s.Ends
		case s.Issued.IsZero():
			report.State, report.Lacking = Waiting, k.lacking(s.ID)
		case i == k.current():
			report.State = Issuing
		}
		reports = append(reports, report)
	}
	return reports
}
