package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailturn/mailturn/framework/atomicfile"
	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/turnsrv/ban"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

const (
	// bansFile is in the state directory.
	bansFile = "bans.json"
	// maxBans times the size of the largest ban is less than maxBansFile.
	maxBans      = 4096
	maxBansFile  = 16 << 20
	maxBanReason = 200 // bytes
	maxBanName   = 255 // bytes
	// maxBanUsernames is how many user names are stored with an account. There is a new one each tenth of turn_ttl.
	maxBanUsernames = 32
	// rememberEvery is how often user names that were issued during a ban are stored. What is lost if the process is killed matters
	// only until those credentials expire.
	rememberEvery = 10 * time.Minute
)

// banReport is a ban: of an account or of a network.
type banReport struct {
	Account string `json:"account,omitempty"`
	// Usernames are those of credentials of the account. After a restart only they tell whose the credentials are.
	Usernames []string  `json:"usernames,omitempty"`
	Network   string    `json:"network,omitempty"`
	Made      time.Time `json:"made"`
	Until     time.Time `json:"until"`
	By        string    `json:"by"`
	Reason    string    `json:"reason,omitempty"`
	// Stamp is that of its cluster.Entry. It is not part of responses.
	Stamp int64 `json:"stamp,omitempty"`
}

// target is what is banned.
func (b banReport) target() string { return cmp.Or(b.Account, b.Network) }

// check returns why a ban that was read cannot be put in force, and normalizes its network.
func (b *banReport) check() error {
	if (b.Account == "") == (b.Network == "") {
		return errors.New("want an account or a network")
	}
	if b.Network != "" {
		network, err := netip.ParsePrefix(b.Network)
		if err != nil {
			return err
		}
		b.Network = network.Masked().String()
	}
	return nil
}

// storedBans is the content of bansFile.
type storedBans struct {
	Version int         `json:"version"`
	Bans    []banReport `json:"bans"`
	// Lifted are bans that other machines of the cluster may not know to be lifted.
	Lifted []liftedBan `json:"lifted,omitempty"`
	// Revoked are in a list of their own, because an earlier version, which ignores them, would take them for bans.
	Revoked []revocation `json:"revoked,omitempty"`
}

// expire removes what is not needed any more.
func (s *storedBans) expire(now time.Time) {
	s.Bans = slices.DeleteFunc(slices.Clone(s.Bans), func(r banReport) bool { return !now.Before(r.Until) })
	s.Lifted = slices.DeleteFunc(slices.Clone(s.Lifted), func(l liftedBan) bool { return !now.Before(l.Until) })
	s.Revoked = slices.DeleteFunc(slices.Clone(s.Revoked), func(r revocation) bool { return !now.Before(r.Until) })
}

// bans are the bans in force, which are stored in the state directory. Safe for concurrent use.
type bans struct {
	path string   // empty if there is no state directory
	list ban.List // for the relays
	// accounts, if not nil, are those of the issuers, which must not issue what was revoked again.
	accounts *credential.Accounts

	mu     sync.Mutex // guards what follows; held while the file is written
	stored storedBans
	clock  func() time.Time
}

// load reads the bans that are stored in a directory. A file that cannot be read does not prevent a start: it is logged, and kept
// under another name.
func (b *bans) load(stateDir string, logger *slog.Logger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock = time.Now
	if stateDir == "" {
		return
	}
	b.path = filepath.Join(stateDir, bansFile)
	text, _, err := bounded.ReadFile(b.path, maxBansFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var stored storedBans
	if err == nil {
		stored, err = parseBans(text)
	}
	if err != nil {
		logger.Error("bans are not in force: their file cannot be read", "file", b.path, "err", err)
		if err := os.Rename(b.path, b.path+".damaged"); err != nil {
			logger.Error("cannot rename the damaged ban file", "err", err)
		}
		return
	}
	stored.expire(b.clock())
	b.set(stored)
}

// parseBans parses the content of bansFile.
func parseBans(text []byte) (stored storedBans, err error) {
	if err := json.Unmarshal(text, &stored); err != nil {
		return stored, err
	}
	switch {
	case stored.Version != 1:
		return stored, fmt.Errorf("it has version %d, want 1", stored.Version)
	case len(stored.Revoked) > maxBans:
		return stored, fmt.Errorf("it has %d revocations, and may have %d", len(stored.Revoked), maxBans)
	case len(stored.Bans) > maxBans:
		return stored, fmt.Errorf("it has %d bans, and may have %d", len(stored.Bans), maxBans)
	}
	for i := range stored.Bans {
		if err := stored.Bans[i].check(); err != nil {
			return stored, fmt.Errorf("ban %d: %w", i, err)
		}
	}
	for i, r := range stored.Revoked {
		if err := r.check(); err != nil {
			return stored, fmt.Errorf("revocation %d: %w", i, err)
		}
	}
	return stored, nil
}

// set puts bans in force, without storing them. The caller holds the lock.
func (b *bans) set(stored storedBans) {
	b.stored = stored
	inForce := make([]ban.Ban, len(stored.Bans))
	for i, r := range stored.Bans {
		inForce[i] = ban.Ban{Account: r.Account, Usernames: r.Usernames, Until: r.Until}
		if r.Account == "" {
			inForce[i].Network = netip.MustParsePrefix(r.Network) // parsed before
		}
	}
	b.list.Set(inForce, b.revocations()...)
}

// current returns the bans that have not expired, the next to expire first.
func (b *bans) current() []banReport {
	b.mu.Lock()
	defer b.mu.Unlock()
	reports := []banReport{} // not null
	for _, r := range b.stored.Bans {
		if b.clock().Before(r.Until) {
			r.Stamp = 0
			reports = append(reports, r)
		}
	}
	slices.SortFunc(reports, func(a, b banReport) int {
		return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.target(), b.target()))
	})
	return reports
}

var (
	errNoBan       = errors.New("there is no such ban")
	errNothingNew  = errors.New("nothing has changed")
	errTooManyBans = fmt.Errorf("there are %d bans already: lift some of them, or ban a network", maxBans)
)

// add stores a ban, in the place of the one of the same account or network, and puts it in force. It keeps the user names of the former.
// It returns the ban as an entry of the cluster.
func (b *bans) add(r banReport) (entry cluster.Entry, err error) {
	err = b.change(func(stored *storedBans) error {
		r.Stamp = cluster.NextStamp(b.clock(), stored.stamp(r.target()))
		entry = r.entry()
		return stored.put(r)
	})
	return entry, err
}

// lift removes the ban of an account or network, and returns that as an entry of the cluster. It returns errNoBan if there is none.
func (b *bans) lift(target string) (entry cluster.Entry, err error) {
	err = b.change(func(stored *storedBans) error {
		i := stored.index(target)
		if i < 0 {
			return errNoBan
		}
		lifted := liftedBan{Name: stored.Bans[i].name(), Stamp: cluster.NextStamp(b.clock(), stored.Bans[i].Stamp), Until: stored.Bans[i].Until}
		entry = lifted.entry()
		stored.lift(lifted)
		return nil
	})
	return entry, err
}

// remember adds to the bans the user names that accounts were issued since, so that a ban holds for them after a restart.
func (b *bans) remember(accounts *credential.Accounts) error {
	var banned []string
	for _, r := range b.current() {
		if r.Account != "" {
			banned = append(banned, r.Account)
		}
	}
	for _, r := range b.currentRevocations() {
		if r.Account != "" {
			banned = append(banned, r.Account)
		}
	}
	if len(banned) == 0 {
		return nil
	}
	return b.addUsernames(accounts.UsernamesOf(banned))
}

// addUsernames adds to the bans user names of accounts, which are in lower case.
func (b *bans) addUsernames(usernames map[string][]string) error {
	err := b.change(func(stored *storedBans) error {
		changed := false
		for i, r := range stored.Bans {
			if r.Account == "" { // usernames may have some that were issued to several accounts
				continue
			}
			latest := latestUsernames(r.Usernames, usernames[strings.ToLower(r.Account)])
			changed = changed || !slices.Equal(latest, r.Usernames)
			stored.Bans[i].Usernames = latest
		}
		for i := range stored.Revoked {
			r := &stored.Revoked[i]
			if r.Account != "" && r.learn(usernames[strings.ToLower(r.Account)]) {
				changed = true
			}
		}
		if !changed {
			return errNothingNew
		}
		return nil
	})
	if errors.Is(err, errNothingNew) {
		return nil
	}
	return err
}

// latestUsernames returns those of a and b that expire last, in order.
func latestUsernames(a, b []string) []string {
	all := slices.Concat(a, b)
	second := func(username string) string { return strings.TrimLeft(username, "0") }
	slices.SortFunc(all, func(x, y string) int { return cmp.Or(cmp.Compare(second(x), second(y)), cmp.Compare(x, y)) })
	all = slices.Compact(all)
	return all[max(len(all)-maxBanUsernames, 0):]
}

// change has f change the bans that have not expired, stores the result, and puts it in force. On an error nothing changes.
func (b *bans) change(f func(*storedBans) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.path == "" {
		return errNoStateDir
	}
	next := b.stored
	next.Version = 1
	next.expire(b.clock())
	if err := f(&next); err != nil {
		return err
	}
	if err := b.store(next); err != nil {
		return fmt.Errorf("store the bans: %w", err)
	}
	b.set(next)
	return nil
}

// store writes the file.
func (b *bans) store(stored storedBans) error {
	text, err := json.MarshalIndent(stored, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(b.path), 0o700); err != nil {
		return err
	}
	return atomicfile.Replace(b.path, append(text, '\n'), atomicfile.Private)
}
