package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/turnsrv/ban"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// revocation makes the credentials of an account invalid that were issued before it was made, or a single one.
type revocation struct {
	Account string `json:"account,omitempty"`
	// Username is that of a single credential.
	Username string `json:"username,omitempty"`
	// Usernames are those of the account, as in banReport.
	Usernames []string  `json:"usernames,omitempty"`
	Made      time.Time `json:"made"`
	// Until is when the last of the revoked credentials expires. Those of the account that expire later are accepted.
	Until  time.Time `json:"until"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	// Stamp is that of its cluster.Entry. It is not part of responses.
	Stamp int64 `json:"stamp,omitempty"`
}

// Names of the entries of revocations in the cluster begin with one of these.
const (
	accountRevocation  = "revoked account "
	usernameRevocation = "revoked user name "
)

func (r revocation) target() string { return cmp.Or(r.Account, r.Username) }

// name is the name of the entry in the cluster.
func (r revocation) name() string {
	if r.Account != "" {
		return accountRevocation + r.Account
	}
	return usernameRevocation + r.Username
}

func (r revocation) check() error {
	switch {
	case (r.Account == "") == (r.Username == ""):
		return errors.New("want an account or a user name")
	case len(r.target()) > maxBanName || len(r.Reason) > maxBanReason:
		return errors.New("it is too long")
	}
	return nil
}

// entry returns the revocation as an entry of the cluster. User names of the account are not part of it: each machine knows those that it
// needs.
func (r revocation) entry() cluster.Entry {
	e := cluster.Entry{Name: r.name(), Stamp: r.Stamp, Until: r.Until}
	r.Usernames, r.Stamp = nil, 0
	text, err := json.Marshal(r)
	if err != nil { // it has only strings and times
		panic(err)
	}
	e.Value = string(text)
	return e
}

// extend makes the revocation last at least until a time.
func (r *revocation) extend(until time.Time) {
	if until.After(r.Until) {
		r.Until = until
	}
}

// learn adds the revoked ones of the user names that were issued to the account, and reports whether there are new ones.
func (r *revocation) learn(usernames []string) (changed bool) {
	old := slices.DeleteFunc(slices.Clone(usernames), func(username string) bool {
		expires, ok := credential.Expiry(username)
		return !ok || expires.After(r.Until)
	})
	latest := latestUsernames(r.Usernames, old)
	changed = !slices.Equal(latest, r.Usernames)
	r.Usernames = latest
	return changed
}

// putRevoked adds a revocation, which replaces the one of the same account or user name. What that one has revoked stays revoked.
func (s *storedBans) putRevoked(r revocation) error {
	s.Revoked = slices.Clone(s.Revoked)
	if i := s.indexRevoked(r.name()); i >= 0 {
		r.extend(s.Revoked[i].Until)
		r.learn(s.Revoked[i].Usernames)
		s.Revoked = slices.Delete(s.Revoked, i, i+1)
	}
	if len(s.Revoked) >= maxBans {
		return errTooManyRevocations
	}
	s.Revoked = append(s.Revoked, r)
	return nil
}

var errTooManyRevocations = fmt.Errorf("there are %d revocations already, which end when the revoked credentials expire: ban the account", maxBans)

// indexRevoked returns the place of the revocation with a name, -1 if there is none.
func (s *storedBans) indexRevoked(name string) int {
	return slices.IndexFunc(s.Revoked, func(r revocation) bool { return r.name() == name })
}

// revoke stores a revocation and puts it in force. It returns it as an entry of the cluster.
func (b *bans) revoke(r revocation) (entry cluster.Entry, err error) {
	err = b.change(func(stored *storedBans) error {
		before := int64(0)
		if i := stored.indexRevoked(r.name()); i >= 0 {
			before = stored.Revoked[i].Stamp
			r.extend(stored.Revoked[i].Until) // for the other machines, too
		}
		r.Stamp = cluster.NextStamp(b.clock(), before)
		entry = r.entry()
		return stored.putRevoked(r)
	})
	return entry, err
}

// mergeRevoked puts in force what other machines have published, as merge does for bans, and reports whether anything is new.
func (b *bans) mergeRevoked(entries []cluster.Entry, usernames func(account string) []string, logger *slog.Logger) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := b.stored
	next.Version = 1
	next.expire(b.clock())
	var refused error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, accountRevocation) && !strings.HasPrefix(e.Name, usernameRevocation) || !b.clock().Before(e.Until) {
			continue
		}
		if i := next.indexRevoked(e.Name); i >= 0 && e.Stamp <= next.Revoked[i].Stamp {
			continue
		}
		r, err := revocationOf(e)
		if err == nil && len(next.Revoked) < maxBans { // else without the search, which takes long
			r.learn(usernames(r.Account))
		}
		if err == nil {
			err = next.putRevoked(r)
		}
		if err != nil {
			refused = cmp.Or(refused, err)
			continue
		}
		logger.Info("cluster: credentials were revoked on another machine", "account", r.Account, "username", r.Username, "by", r.By, "reason", r.Reason)
		changed = true
	}
	if refused != nil {
		logger.Error("cluster: revocations of other machines are not in force", "err", refused)
	}
	if !changed {
		return false
	}
	b.adopt(next, logger)
	return true
}

// revocationOf returns the revocation of an entry.
func revocationOf(e cluster.Entry) (r revocation, err error) {
	if err := json.Unmarshal([]byte(e.Value), &r); err != nil {
		return r, err
	}
	if err := r.check(); err != nil {
		return r, err
	}
	r.Stamp, r.Until, r.Usernames = e.Stamp, e.Until, nil
	if r.name() != e.Name {
		return r, fmt.Errorf("it is not the revocation of %q", e.Name)
	}
	return r, nil
}

// currentRevocations returns the revocations that have not expired, the next to expire first.
func (b *bans) currentRevocations() []revocation {
	b.mu.Lock()
	defer b.mu.Unlock()
	reports := []revocation{} // not null
	for _, r := range b.stored.Revoked {
		if b.clock().Before(r.Until) {
			r.Stamp = 0
			reports = append(reports, r)
		}
	}
	slices.SortFunc(reports, func(a, b revocation) int {
		return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.target(), b.target()))
	})
	return reports
}

// revocations returns the revocations for the relays, and keeps issuers from issuing the same credentials again. The caller holds the lock.
func (b *bans) revocations() (inForce []ban.Revocation) {
	revoked := credential.Revoked{Through: make(map[string]time.Time)}
	for _, r := range b.stored.Revoked {
		if r.Account == "" {
			inForce = append(inForce, ban.Revocation{Usernames: []string{r.Username}})
			revoked.Usernames = append(revoked.Usernames, r.Username)
			continue
		}
		inForce = append(inForce, ban.Revocation{Account: r.Account, Usernames: r.Usernames, Through: r.Until})
		revoked.Through[strings.ToLower(r.Account)] = r.Until
	}
	if b.accounts != nil {
		b.accounts.SetRevoked(revoked)
	}
	return inForce
}
