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
}

// target is what is banned.
func (b banReport) target() string { return cmp.Or(b.Account, b.Network) }

// storedBans is the content of bansFile.
type storedBans struct {
	Version int         `json:"version"`
	Bans    []banReport `json:"bans"`
}

// bans are the bans in force, which are stored in the state directory. Safe for concurrent use.
type bans struct {
	path string   // empty if there is no state directory
	list ban.List // for the relays

	mu    sync.Mutex // guards what follows; held while the file is written
	bans  []banReport
	clock func() time.Time
}

// load reads the bans that are stored in a directory. A file that cannot be read does not prevent a start: it is logged, and kept
// under another name.
func (b *bans) load(stateDir string, logger *slog.Logger) {
	b.clock = time.Now
	if stateDir == "" {
		return
	}
	b.path = filepath.Join(stateDir, bansFile)
	text, _, err := bounded.ReadFile(b.path, maxBansFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var stored []banReport
	if err == nil {
		stored, err = parseBans(text)
	}
	if err != nil {
		logger.Error("bans are not in force: their file cannot be read", "file", b.path, "err", err)
		if err := os.Rename(b.path, b.path+".damaged"); err != nil {
			logger.Error("keeping the file of the bans", "err", err)
		}
		return
	}
	b.set(slices.DeleteFunc(stored, func(r banReport) bool { return !b.clock().Before(r.Until) }))
}

// parseBans parses the content of bansFile.
func parseBans(text []byte) ([]banReport, error) {
	var stored storedBans
	if err := json.Unmarshal(text, &stored); err != nil {
		return nil, err
	}
	switch {
	case stored.Version != 1:
		return nil, fmt.Errorf("it has version %d, want 1", stored.Version)
	case len(stored.Bans) > maxBans:
		return nil, fmt.Errorf("it has %d bans, and may have %d", len(stored.Bans), maxBans)
	}
	for i, r := range stored.Bans {
		if (r.Account == "") == (r.Network == "") {
			return nil, fmt.Errorf("ban %d: want an account or a network", i)
		}
		if r.Network != "" {
			network, err := netip.ParsePrefix(r.Network)
			if err != nil {
				return nil, fmt.Errorf("ban %d: %w", i, err)
			}
			stored.Bans[i].Network = network.Masked().String()
		}
	}
	return stored.Bans, nil
}

// set puts bans in force, without storing them. The caller holds the lock, or is load.
func (b *bans) set(reports []banReport) {
	b.bans = reports
	inForce := make([]ban.Ban, len(reports))
	for i, r := range reports {
		inForce[i] = ban.Ban{Account: r.Account, Usernames: r.Usernames, Until: r.Until}
		if r.Account == "" {
			inForce[i].Network = netip.MustParsePrefix(r.Network) // parsed before
		}
	}
	b.list.Set(inForce)
}

// current returns the bans that have not expired, the next to expire first.
func (b *bans) current() []banReport {
	b.mu.Lock()
	defer b.mu.Unlock()
	reports := []banReport{} // not null
	for _, r := range b.bans {
		if b.clock().Before(r.Until) {
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
func (b *bans) add(r banReport) error {
	return b.change(func(reports []banReport) ([]banReport, error) {
		if i := slices.IndexFunc(reports, func(other banReport) bool { return other.target() == r.target() }); i >= 0 {
			r.Usernames = latestUsernames(reports[i].Usernames, r.Usernames)
			reports = slices.Delete(reports, i, i+1)
		}
		if len(reports) >= maxBans {
			return nil, errTooManyBans
		}
		return append(reports, r), nil
	})
}

// lift removes the ban of an account or network. It returns errNoBan if there is none.
func (b *bans) lift(target string) error {
	return b.change(func(reports []banReport) ([]banReport, error) {
		left := slices.DeleteFunc(reports, func(r banReport) bool { return r.target() == target })
		if len(left) == len(reports) {
			return nil, errNoBan
		}
		return left, nil
	})
}

// remember adds to the bans the user names that accounts were issued since, so that a ban holds for them after a restart.
func (b *bans) remember(accounts *credential.Accounts) error {
	var banned []string
	for _, r := range b.current() {
		if r.Account != "" {
			banned = append(banned, r.Account)
		}
	}
	if len(banned) == 0 {
		return nil
	}
	usernames := accounts.UsernamesOf(banned)
	err := b.change(func(reports []banReport) ([]banReport, error) {
		changed := false
		for i, r := range reports {
			latest := latestUsernames(r.Usernames, usernames[strings.ToLower(r.Account)])
			changed = changed || !slices.Equal(latest, r.Usernames)
			reports[i].Usernames = latest
		}
		if !changed {
			return nil, errNothingNew
		}
		return reports, nil
	})
	if errors.Is(err, errNothingNew) {
		return nil
	}
	return err
}

// latestUsernames returns those of a and b that expire last, in order.
func latestUsernames(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	all = slices.Compact(all)
	return all[max(len(all)-maxBanUsernames, 0):]
}

// change stores what f makes of the bans that have not expired, and puts it in force. On an error nothing changes.
func (b *bans) change(f func([]banReport) ([]banReport, error)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.path == "" {
		return errNoStateDir
	}
	live := slices.DeleteFunc(slices.Clone(b.bans), func(r banReport) bool { return !b.clock().Before(r.Until) })
	next, err := f(live)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(storedBans{1, next}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(b.path), 0o700); err != nil {
		return fmt.Errorf("store the bans: %w", err)
	}
	if err := atomicfile.Replace(b.path, append(text, '\n'), atomicfile.Private); err != nil {
		return fmt.Errorf("store the bans: %w", err)
	}
	b.set(next)
	return nil
}
