package rotation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

const (
	// maxSecrets is how many accepted secrets there may be for Rotate to make another one, and maxHeld how many a machine holds: more than
	// that if the halves of a network that was split have made some.
	maxSecrets = 8
	maxHeld    = 16
	// maxScheduled is the same as maxSecrets for the schedule, so that Rotate can always make one.
	maxScheduled = maxSecrets - 2
	// maxWithdrawn is how many secrets that have ended a machine remembers.
	maxWithdrawn = 256
	// DefaultLifetime is that of credentials if no machine has said which it issues: the default of turn_ttl.
	DefaultLifetime = 120 * time.Hour
)

// Config is what a Keeper needs.
type Config struct {
	Cluster cluster.Settings
	// Relays returns the relays of the cluster that are alive, none while Redis does not answer.
	Relays func() []cluster.Relay
	// Publish tells the other machines, as cluster.Exchange does.
	Publish func(context.Context, ...cluster.Entry) error
	// Claim reports whether this machine is the first one to claim something, as cluster.Exchange does.
	Claim func(context.Context, string) (bool, error)
	// Changed is called after the accepted secrets have changed.
	Changed func()
	// Path is a file for the secrets, empty for none. It is sealed with the key of the cluster.
	Path   string
	Logger *slog.Logger
}

// Settings are what a reload may change.
type Settings struct {
	// Lifetime is the longest validity of the credentials that this machine issues, 0 if it issues none.
	Lifetime time.Duration
	// Every is how often the secret is replaced, 0 for never.
	Every time.Duration
}

// A Keeper has the secrets of a cluster. Use New. The methods of a nil Keeper, of a machine without a cluster or a cluster without a key,
// do nothing. It is safe for concurrent use.
type Keeper struct {
	config Config
	ring   credential.Ring

	mu       sync.Mutex // guards what follows; held while the file is written
	settings Settings
	held     []Secret // in the order of compare
	gone     []withdrawn
	retired  bool                // another process writes the file
	synced   bool                // Redis has said what it has
	refused  bool                // the log says that a secret was ignored
	known    time.Time           // since when relays are known, zero while Redis does not answer
	seen     map[string]sighting // relays that were alive lately, by name
	waiting  string
	since    time.Time // when waiting, the ID of a secret that some relay does not accept, was seen first
	overdue  string    // ID of the secret about which the log says so
	made     string    // ID of the latest secret that this process has made
	stalled  bool      // the log says that no machine replaces the secret
}

// New returns a Keeper with the secrets of its file, and nil if the cluster has no key.
func New(c Config) *Keeper {
	if !c.Cluster.HasKey() {
		return nil
	}
	k := &Keeper{config: c}
	k.Load()
	return k
}

// Ring returns the secrets for relays and issuers, nil for a nil Keeper.
func (k *Keeper) Ring() *credential.Ring {
	if k == nil {
		return nil
	}
	return &k.ring
}

// Configure replaces the settings.
func (k *Keeper) Configure(s Settings) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.settings = s
}

// Announced returns the IDs of the secrets that the relay of this process announces, the latest first: not those that were replaced some
// time ago, which it accepts nevertheless.
func (k *Keeper) Announced() (ids []string) {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	current := k.current()
	for i := len(k.held) - 1; i >= 0; i-- {
		if !k.ended(k.held[i].ID) && (i >= current || time.Since(k.held[current].Issued) < announceFor) {
			ids = append(ids, k.held[i].ID)
		}
	}
	return ids
}

// current returns the place of the secret with which machines issue, -1 if there is none. The caller holds the lock.
func (k *Keeper) current() int {
	for i := len(k.held) - 1; i >= 0; i-- {
		if !k.held[i].Issued.IsZero() && !k.ended(k.held[i].ID) {
			return i
		}
	}
	return -1
}

// ended reports whether a secret has ended, although this machine may still accept it: see withdraw. The caller holds the lock.
func (k *Keeper) ended(id string) bool { return k.indexGone(id) >= 0 }

func (k *Keeper) indexGone(id string) int {
	return slices.IndexFunc(k.gone, func(w withdrawn) bool { return w.ID == id })
}

// Held returns the secrets as entries of the cluster.
func (k *Keeper) Held() (entries []cluster.Entry) {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for _, s := range k.held {
		if !k.ended(s.ID) {
			entries = append(entries, s.entry())
		}
	}
	for _, w := range k.gone {
		if now.Before(w.Until) {
			entries = append(entries, w.entry())
		}
	}
	return entries
}

// Errors of Rotate.
var (
	ErrNoKey = errors.New("secrets are shared only if the cluster block has a key")
	// ErrRefused is wrapped if there are too many secrets, or one that not all relays accept.
	ErrRefused = errors.New("no secret was made")
)

// Rotate makes a new secret, which this machine accepts, and publishes it. The error of Publish is problem: then the others learn of the
// secret later.
func (k *Keeper) Rotate(ctx context.Context) (id string, problem, err error) {
	if k == nil {
		return "", nil, ErrNoKey
	}
	return k.rotateTo(ctx, maxSecrets)
}

// rotateTo is Rotate for another limit than maxSecrets.
func (k *Keeper) rotateTo(ctx context.Context, most int) (id string, problem, err error) {
	value := make([]byte, size)
	_, _ = rand.Read(value) // never fails
	k.mu.Lock()
	s, err := k.rotate(value, most, time.Now())
	k.mu.Unlock()
	if err != nil {
		return "", nil, err
	}
	k.config.Changed()
	return s.ID, k.config.Publish(ctx, s.entry()), nil
}

func (k *Keeper) rotate(value []byte, most int, now time.Time) (s Secret, err error) {
	k.expire(now)
	lifetime, number := max(k.settings.Lifetime, DefaultLifetime), int64(0)
	if n := len(k.held); n > 0 {
		latest := k.held[n-1]
		if latest.Issued.IsZero() {
			return s, fmt.Errorf("%w: not all relays accept the latest one, %s, yet; mailturn ctl secret status shows which do not", ErrRefused, latest.ID)
		}
		lifetime, number = max(k.settings.Lifetime, latest.Lifetime), latest.Number
	}
	if len(k.held) >= most {
		return s, fmt.Errorf("%w: %d are accepted already; mailturn ctl secret status shows when the first of them ends", ErrRefused, len(k.held))
	}
	s = newSecret(value, number, lifetime, now)
	k.held = append(k.held, s)
	if err := k.store(); err != nil {
		k.held = k.held[:len(k.held)-1]
		return s, fmt.Errorf("store the secret: %w", err)
	}
	k.made = s.ID
	k.fill()
	return s, nil
}

// Merge takes entries that other machines have published, of any kind.
func (k *Keeper) Merge(entries []cluster.Entry) {
	if k == nil {
		return
	}
	k.mu.Lock()
	now := time.Now()
	k.synced = true
	before := k.expire(now)
	var answers []cluster.Entry
	changed := false
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, prefix) || !now.Before(e.Until) {
			continue
		}
		answer, learned := k.learn(e, now)
		if answer != nil {
			answers = append(answers, *answer)
		}
		changed = changed || learned
	}
	changed = before || changed
	if changed {
		k.changed()
	}
	k.mu.Unlock()
	if changed {
		k.config.Changed()
	}
	if len(answers) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), publishLimit)
		defer cancel()
		_ = k.config.Publish(ctx, answers...) // or with everything that is held
	}
}

// publishLimit is how long this machine waits for Redis when it has to tell something.
const publishLimit = 2 * time.Second

// learn takes one entry. It reports whether it has changed what this machine knows, and returns an entry if the others should know more.
func (k *Keeper) learn(e cluster.Entry, now time.Time) (answer *cluster.Entry, changed bool) {
	id := strings.TrimPrefix(e.Name, prefix)
	i := slices.IndexFunc(k.held, func(s Secret) bool { return s.ID == id })
	g := k.indexGone(id)
	if e.Value == "" {
		return k.withdraw(id, i, g, e, now)
	}
	switch {
	case g >= 0 && e.Stamp <= k.gone[g].Stamp:
		return nil, false
	case g >= 0 && !now.Before(k.gone[g].ended()): // from a machine to which somebody has given a copy, or that was away
		k.gone[g].Stamp = cluster.NextStamp(now, e.Stamp)
		told := k.gone[g].entry()
		return &told, true
	}
	s, err := parse(e)
	if err == nil && i < 0 && len(k.held) >= maxHeld {
		err = fmt.Errorf("there are %d already", maxHeld)
	}
	if err != nil {
		if !k.refused {
			k.config.Logger.Error("cluster: a secret of another machine is ignored; more are ignored without a message", "id", id, "err", err)
		}
		k.refused = true
		return nil, false
	}
	if g >= 0 {
		k.gone = slices.Delete(k.gone, g, g+1)
	}
	if i < 0 {
		k.held = append(k.held, s)
		slices.SortFunc(k.held, compare)
		return nil, true
	}
	joined := join(k.held[i], s)
	if k.held[i].Ends.IsZero() && !joined.Ends.IsZero() && joined.Ends.Before(now.Add(joined.Lifetime)) {
		joined.replace(now) // this machine may have issued with it until now
	}
	more := !joined.says(k.held[i])
	changed = more || joined.stamp != k.held[i].stamp
	if !joined.says(s) && (more || s.stamp >= k.held[i].stamp) {
		joined.stamp = cluster.NextStamp(now, joined.stamp)
		told := joined.entry()
		answer, changed = &told, true
	}
	k.held[i] = joined
	return answer, changed
}

// withdraw takes the entry of a secret that has ended, which is at i of those held and at g of those gone, or -1. It has ended for good,
// unless the clock of the machine that says so is ahead. If this machine was away and has issued with it, it goes on accepting that, and
// tells nobody.
func (k *Keeper) withdraw(id string, i, g int, e cluster.Entry, now time.Time) (answer *cluster.Entry, changed bool) {
	w := withdrawn{id, e.Stamp, e.Until}
	switch {
	case i >= 0 && g < 0 && e.Stamp <= k.held[i].stamp, g >= 0 && e.Stamp <= k.gone[g].Stamp, len(id) != idLength:
		return nil, false
	case i >= 0 && g < 0 && now.Before(w.ended()):
		s := &k.held[i]
		if s.Ends.After(w.ended()) { // it was told so, and does not believe it
			s.stamp = e.Stamp
			return nil, true
		}
		if s.Ends.IsZero() {
			s.replace(now)
		}
		s.stamp = cluster.NextStamp(now, e.Stamp)
		told := s.entry()
		return &told, true
	case i >= 0 && k.held[i].used:
		if k.held[i].Ends.IsZero() {
			k.held[i].replace(now)
		}
	case i >= 0:
		k.held = slices.Delete(k.held, i, i+1)
		k.config.Logger.Info(endMessage, "id", id)
	}
	k.forget(w)
	return nil, true
}

// endMessage is logged when a secret ends.
const endMessage = "cluster: a secret is no longer accepted"

// forget remembers a secret that has ended.
func (k *Keeper) forget(w withdrawn) {
	if g := k.indexGone(w.ID); g >= 0 {
		k.gone[g] = w
		return
	}
	if k.gone = append(k.gone, w); len(k.gone) > maxWithdrawn {
		k.gone = k.gone[1:]
	}
}

// expire removes what has ended, and reports whether that has changed which secrets are accepted. All machines give the entry of such a
// secret the same stamp.
func (k *Keeper) expire(now time.Time) (changed bool) {
	k.gone = slices.DeleteFunc(k.gone, func(w withdrawn) bool { return !now.Before(w.Until) })
	k.held = slices.DeleteFunc(k.held, func(s Secret) bool {
		if s.accepted(now) {
			return false
		}
		k.config.Logger.Info(endMessage, "id", s.ID)
		if !k.ended(s.ID) {
			k.forget(withdrawn{s.ID, s.stamp + 1, s.Ends.Add(leaseTime)})
		}
		changed = true
		return true
	})
	return changed
}

// changed stores the secrets, and puts them in force.
func (k *Keeper) changed() {
	if i := k.current(); i >= 0 {
		k.held[i].used = true
	}
	if err := k.store(); err != nil {
		k.config.Logger.Error("cluster: secrets are not stored; after a restart, this machine has to learn them from Redis", "err", err)
	}
	k.fill()
}

// fill gives the ring the secrets.
func (k *Keeper) fill() {
	var accepted []credential.Secret
	var issuing []credential.Identified
	for i := len(k.held) - 1; i >= 0; i-- {
		accepted = append(accepted, k.held[i].Value)
		if !k.held[i].Issued.IsZero() && !k.ended(k.held[i].ID) {
			issuing = append(issuing, credential.Identified{ID: k.held[i].ID, Secret: k.held[i].Value})
		}
	}
	k.ring.Set(accepted, issuing)
}
