package cluster

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// sweepEvery is how often relays tell Redis what has changed for their users, and learn what these have elsewhere.
	sweepEvery = 250 * time.Millisecond
	// freshFor is how long it is known what a user has elsewhere. Whoever asks later gets what was known, and has it read again.
	freshFor = time.Second
	// usersPerSweep is how many users one round trip is for.
	usersPerSweep = 1000
	pruneEvery    = time.Minute
	// bytesEvery is how often Redis is told what users have relayed.
	bytesEvery = 10 * time.Second
	// keepHeld is for how long Redis keeps what a relay holds, and confirmEvery how often relays confirm that. That a relay is dead is
	// known long before. keepDay is for how long Redis keeps the bytes of a day.
	keepHeld     = 48 * time.Hour
	confirmEvery = 12 * time.Hour
	keepDay      = 49 * time.Hour
)

// Limits counts what users have on all relays of a cluster. No method waits for Redis: a goroutine tells it what has changed here,
// and reads what is elsewhere, in one operation for each user who has changed. So a limit may be exceeded for the time of a sweep.
// It is safe for concurrent use.
type Limits struct {
	directory   *Directory
	incarnation string // of the relay of this process
	sealer      *sealer
	clock       func() time.Time
	// every and bytesEvery are the constants, except in tests.
	every, bytesEvery time.Duration

	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex // guards what follows
	users map[string]*sharedUser
	dirty map[string]bool // users for the next sweep
	// failed is set after Redis has not answered, until when it is left alone, and epoch is what it had said before.
	failed            bool
	until             time.Time
	epoch             string
	pruned, bytesTold time.Time
	// refusals are the users whose keys Redis refuses to use.
	refusals map[string]refusal
}

// Holding is what a user has on a relay at a time.
type Holding struct {
	Addresses int // relayed addresses
	Calls     int // as the relay counts them
}

// sharedUser is what a user has on this relay, and what others had when Redis was asked last, by the incarnation of the relay.
type sharedUser struct {
	Holding
	bytes  uint64
	day    string // that bytes and bytesElsewhere are of
	unsaid bool   // bytes have changed since Redis was told

	// elsewhere is what other relays have told Redis, and earlier how many of their calls were there before the latest one here was told.
	elsewhere      map[string]Holding
	earlier        map[string]int
	bytesElsewhere map[string]uint64
	asked, wanted  time.Time // when Redis was asked, and when somebody here wanted to know

	// storedUntil is until when Redis may have something of what the user held here, and storedCalls how many calls it is known to have.
	storedUntil time.Time
	storedCalls int
}

// refusal is how often Redis has refused an operation for a user in succession, and when it is tried again.
type refusal struct {
	times int
	again time.Time
}

// NewLimits returns the Limits of a relay, and nil if it is in no cluster. incarnation is that of its announcement.
func NewLimits(directory *Directory, incarnation string) *Limits {
	if directory == nil {
		return nil
	}
	return &Limits{
		directory: directory, incarnation: incarnation, sealer: newSealer(directory.settings.key()), clock: time.Now, every: sweepEvery, bytesEvery: bytesEvery,
		users: make(map[string]*sharedUser), dirty: make(map[string]bool), refusals: make(map[string]refusal),
	}
}

// Start begins to share, without waiting for Redis. Call Stop in the end.
func (l *Limits) Start() {
	if l == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.running.Go(func() {
		ticker := time.NewTicker(l.every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				l.sweep(ctx)
			}
		}
	})
}

// Stop ends what Start has begun, and tells Redis what it does not know yet. Call it before Directory.Stop.
func (l *Limits) Stop() {
	if l == nil || l.cancel == nil {
		return
	}
	l.cancel()
	l.running.Wait()
	if l.directory.Status().Err != nil { // Redis does not answer
		return
	}
	l.mu.Lock()
	l.bytesTold = time.Time{} // tell all bytes
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	l.sweep(ctx)
}

// Hold says what a user has on this relay.
func (l *Limits) Hold(user string, held Holding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.user(user); u.Holding != held {
		u.Holding = held
		l.dirty[user] = true
	}
}

// Addresses returns how many relayed addresses a user has on other relays that are alive, as far as this one knows.
func (l *Limits) Addresses(user string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.user(user)
	l.want(user, u)
	if len(u.elsewhere) == 0 {
		return 0
	}
	for _, r := range l.directory.Relays() {
		n += u.elsewhere[r.Incarnation].Addresses
	}
	return n
}

// Calls returns how many calls a user has on other relays that are alive, as far as this one knows, and how many of these were there
// before the latest one on this relay. Of two relays on which calls begin at the same time, only one learns of an earlier one. If there
// are none, Redis is not asked again: when a call begins here, its answer to that has those of other relays.
func (l *Limits) Calls(user string) (n, earlier int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[user]
	if u == nil || len(u.elsewhere) == 0 {
		return 0, 0
	}
	for _, r := range l.directory.Relays() {
		n += u.elsewhere[r.Incarnation].Calls
		earlier += u.earlier[r.Incarnation]
	}
	if n > 0 {
		l.want(user, u)
	}
	return n, earlier
}

// SetBytes says how many bytes a user has relayed here on a day.
func (l *Limits) SetBytes(user, day string, bytes uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.user(user)
	u.turn(day)
	u.bytes, u.unsaid = bytes, true
}

// Bytes returns how many bytes a user has relayed elsewhere on a day, as far as this relay knows.
func (l *Limits) Bytes(user, day string) (n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.user(user)
	u.turn(day)
	if u.wanted = l.clock(); u.wanted.Sub(u.asked) > l.bytesEvery {
		l.dirty[user] = true
	}
	for _, bytes := range u.bytesElsewhere {
		n += bytes
	}
	return n
}

// user returns a user. The caller holds the lock.
func (l *Limits) user(name string) *sharedUser {
	u := l.users[name]
	if u == nil {
		u = new(sharedUser)
		l.users[name] = u
	}
	return u
}

// want has a user read again if that was long ago. The caller holds the lock.
func (l *Limits) want(name string, u *sharedUser) {
	if u.wanted = l.clock(); u.wanted.Sub(u.asked) > freshFor {
		l.dirty[name] = true
	}
}

// turn makes day the day of the bytes.
func (u *sharedUser) turn(day string) {
	if day > u.day {
		u.day, u.bytes, u.bytesElsewhere = day, 0, nil
	}
}

// sweep tells Redis what has changed, and reads what is elsewhere.
func (l *Limits) sweep(ctx context.Context) {
	names := l.begin(ctx)
	for chunk := range slices.Chunk(names, usersPerSweep) {
		if err := l.exchange(ctx, chunk); err != nil {
			l.mu.Lock()
			l.fail()
			l.mu.Unlock()
			return
		}
	}
}

// fail has all users told again, because Redis does not answer. The caller holds the lock.
func (l *Limits) fail() { l.failed, l.until = true, l.clock().Add(retryAfter) }

// begin returns the users of a sweep: those who have changed, and all if Redis may have lost something. Those whom Redis has refused
// wait for their turn.
func (l *Limits) begin(ctx context.Context) (names []string) {
	l.mu.Lock()
	if now := l.clock(); now.Sub(l.bytesTold) >= l.bytesEvery {
		l.bytesTold = now
		for name, u := range l.users {
			if u.unsaid {
				l.dirty[name], u.unsaid = true, false
			}
		}
	}
	l.prune(l.clock())
	for name, r := range l.refusals {
		if !l.clock().Before(r.again) {
			l.dirty[name] = true
		}
	}
	idle := len(l.dirty) == 0 && !l.failed || l.clock().Before(l.until)
	l.mu.Unlock()
	if idle {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	key := sharedKey(l.directory.settings.Block.KeyPrefix.V, "epoch")
	pipeline := l.directory.client.Pipeline()
	pipeline.HSetNX(limited, key, "epoch", rand.Text()) // another one after Redis has lost it
	epoch := pipeline.HGet(limited, key, "epoch")
	_, err := pipeline.Exec(limited)
	if isForeign(err) {
		l.directory.clean(limited, hashKey, key)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.fail()
		if Refused(err) && !isForeign(err) {
			l.report(err)
		}
		return nil
	}
	if len(l.refusals) == 0 {
		l.report(nil)
	}
	if l.failed || l.epoch != epoch.Val() {
		for name := range l.users {
			l.dirty[name] = true
		}
	}
	l.failed, l.epoch = false, epoch.Val()
	for name, r := range l.refusals {
		if l.clock().Before(r.again) {
			delete(l.dirty, name)
		}
	}
	names = slices.Collect(maps.Keys(l.dirty))
	clear(l.dirty)
	return names
}

// note remembers whether Redis has refused an operation for a user, and logs when that begins and ends.
func (l *Limits) note(name string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, refused := l.refusals[name]
	switch {
	case err == nil && refused:
		if delete(l.refusals, name); len(l.refusals) == 0 {
			l.report(nil)
		}
	case err != nil:
		l.report(err)
		r.times++
		r.again = l.clock().Add(min(retryAfter<<min(r.times-1, 10), pruneEvery))
		l.refusals[name] = r
	}
}

// report logs when Redis begins to refuse what the limits need, and when it ceases to. It does nothing while announcements fail too, for
// which there is a message.
func (l *Limits) report(err error) {
	switch {
	case err != nil && l.directory.Status().Err != nil:
	case !l.directory.report(SharedLimits, err):
	case err == nil:
		l.directory.logger.Info("cluster: Redis counts what all users have again")
	default:
		l.directory.logger.Warn("cluster: Redis does not count what some users have; each relay counts on its own what they have", "err", err)
	}
}

// prune forgets users who have nothing here today, nor in Redis, and of whom nobody has asked for a while, and confirms what others hold.
// The caller holds the lock.
func (l *Limits) prune(now time.Time) {
	if now.Sub(l.pruned) < pruneEvery {
		return
	}
	l.pruned = now
	today := Day(now)
	for name, u := range l.users {
		unused := u.Holding == Holding{} && now.After(u.storedUntil) && (u.bytes == 0 || u.day < today) && now.Sub(u.wanted) > pruneEvery
		if unused {
			delete(l.users, name)
			delete(l.dirty, name)
			delete(l.refusals, name)
		} else if u.Holding != (Holding{}) && now.Sub(u.asked) > confirmEvery {
			l.dirty[name] = true
		}
	}
}

// Day returns the day of a time, in UTC, as SetBytes and Bytes take it.
func Day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
