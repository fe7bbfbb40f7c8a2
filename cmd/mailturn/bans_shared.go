package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
)

// liftedBan is a ban that was lifted, until it would have ended.
type liftedBan struct {
	Name  string    `json:"name"` // see banReport.name
	Stamp int64     `json:"stamp"`
	Until time.Time `json:"until"`
}

// Names of the entries of bans in the cluster begin with one of these.
const (
	accountBan = "ban account "
	networkBan = "ban network "
)

// name is the name of the ban's entry in the cluster.
func (b banReport) name() string {
	if b.Account != "" {
		return accountBan + b.Account
	}
	return networkBan + b.Network
}

// entry returns the ban as an entry of the cluster. User names are not part of it: each machine knows those that it needs.
func (b banReport) entry() cluster.Entry {
	e := cluster.Entry{Name: b.name(), Stamp: b.Stamp, Until: b.Until}
	b.Usernames, b.Stamp = nil, 0
	text, err := json.Marshal(b)
	if err != nil { // it has only strings and times
		panic(err)
	}
	e.Value = string(text)
	return e
}

func (l liftedBan) entry() cluster.Entry {
	return cluster.Entry{Name: l.Name, Stamp: l.Stamp, Until: l.Until}
}

// index returns the place of a ban, -1 if there is none.
func (s *storedBans) index(target string) int {
	return slices.IndexFunc(s.Bans, func(r banReport) bool { return r.target() == target })
}

// stamp returns the greatest stamp of a ban and of its lifting, 0 if there are none.
func (s *storedBans) stamp(target string) (stamp int64) {
	for _, r := range s.Bans {
		if r.target() == target {
			stamp = max(stamp, r.Stamp)
		}
	}
	account, network := accountBan+target, networkBan+target
	for _, l := range s.Lifted {
		if l.Name == account || l.Name == network {
			stamp = max(stamp, l.Stamp)
		}
	}
	return stamp
}

// put adds a ban, which replaces the one of the same target and keeps its user names. The ban of a network has none.
func (s *storedBans) put(r banReport) error {
	if r.Account == "" { // they were issued to several accounts
		r.Usernames = nil
	}
	if i := s.index(r.target()); i >= 0 {
		if r.Account != "" {
			r.Usernames = latestUsernames(s.Bans[i].Usernames, r.Usernames)
		}
		s.Bans = slices.Delete(s.Bans, i, i+1)
	}
	if len(s.Bans) >= maxBans {
		return errTooManyBans
	}
	s.Lifted = slices.DeleteFunc(s.Lifted, func(l liftedBan) bool { return l.Name == r.name() })
	s.Bans = append(s.Bans, r)
	return nil
}

// lift removes a ban, and remembers that.
func (s *storedBans) lift(lifted liftedBan) {
	s.Bans = slices.DeleteFunc(s.Bans, func(r banReport) bool { return r.name() == lifted.Name })
	s.Lifted = slices.DeleteFunc(s.Lifted, func(l liftedBan) bool { return l.Name == lifted.Name })
	if s.Lifted = append(s.Lifted, lifted); len(s.Lifted) > maxBans {
		s.Lifted = s.Lifted[1:]
	}
}

// held returns the bans, and those that were lifted, as entries of the cluster.
func (b *bans) held() (entries []cluster.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	for _, r := range b.stored.Bans {
		if now.Before(r.Until) {
			entries = append(entries, r.entry())
		}
	}
	for _, l := range b.stored.Lifted {
		if now.Before(l.Until) {
			entries = append(entries, l.entry())
		}
	}
	for _, r := range b.stored.Revoked {
		if now.Before(r.Until) {
			entries = append(entries, r.entry())
		}
	}
	return entries
}

// merge puts in force what other machines have published, and stores it if there is a state directory. usernames returns the user names
// that were issued to an account. It returns the bans that are new.
func (b *bans) merge(entries []cluster.Entry, usernames func(account string) []string, logger *slog.Logger) (made []banReport) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := b.stored
	next.Version = 1
	next.expire(b.clock())
	changed, refused := false, 0
	var first slog.Attr // that was refused
	var why error
	for _, e := range entries {
		target, isAccount := strings.CutPrefix(e.Name, accountBan)
		network, isNetwork := strings.CutPrefix(e.Name, networkBan)
		var of slog.Attr
		switch {
		case isAccount:
			of = slog.String("account", target)
		case isNetwork:
			of, target = slog.String("network", network), network
		default:
			continue
		}
		if e.Stamp <= next.stamp(target) || !b.clock().Before(e.Until) {
			continue
		}
		if e.Value == "" {
			logger.Info("cluster: ban was lifted on another machine", of)
			next.lift(liftedBan{e.Name, e.Stamp, e.Until})
			changed = true
			continue
		}
		r, err := banOf(e)
		if err == nil && len(next.Bans) >= maxBans && next.index(target) < 0 {
			err = errTooManyBans // without a search for user names, which takes long
		}
		if err == nil {
			r.Usernames = latestUsernames(usernames(r.Account), nil)
			err = next.put(r)
		}
		if err != nil {
			if refused++; refused == 1 {
				first, why = of, err
			}
			continue
		}
		logger.Info("cluster: banned on another machine", "account", r.Account, "network", r.Network, "until", r.Until, "by", r.By, "reason", r.Reason)
		made, changed = append(made, r), true
	}
	if refused > 0 {
		logger.Error("cluster: bans of other machines are not in force", "count", refused, "first", slog.GroupValue(first), "err", why)
	}
	if !changed {
		return nil
	}
	b.adopt(next, logger)
	return made
}

// adopt puts in force what was learned from other machines, and stores it. The caller holds the lock.
func (b *bans) adopt(next storedBans, logger *slog.Logger) {
	b.set(next)
	if b.path == "" {
		return
	}
	if err := b.store(next); err != nil {
		logger.Error("cluster: bans of other machines are not stored", "err", err)
	}
}

// banOf returns the ban of an entry.
func banOf(e cluster.Entry) (r banReport, err error) {
	if err := json.Unmarshal([]byte(e.Value), &r); err != nil {
		return r, err
	}
	if err := r.check(); err != nil {
		return r, err
	}
	r.Stamp, r.Until, r.Usernames = e.Stamp, e.Until, nil
	if r.name() != e.Name || len(r.target()) > maxBanName || len(r.Reason) > maxBanReason {
		return r, fmt.Errorf("it is not the ban of %q, or too long", e.Name)
	}
	return r, nil
}
