package cluster

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
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

// sharedUser is what a user has on this relay, and what others had when Redis was asked last, by the incarnation of the relay.
type sharedUser struct {
	held   int
	bytes  uint64
	day    string // that bytes and bytesElsewhere are of
	unsaid bool   // bytes have changed since Redis was told

	heldElsewhere  map[string]int
	bytesElsewhere map[string]uint64
	asked          time.Time
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

// Hold says how many relayed addresses a user has on this relay.
func (l *Limits) Hold(user string, held int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.user(user); u.held != held {
		u.held = held
		l.dirty[user] = true
	}
}

// Held returns how many relayed addresses a user has on other relays that are alive, as far as this one knows.
func (l *Limits) Held(user string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	elsewhere := l.ask(user).heldElsewhere
	if len(elsewhere) == 0 {
		return 0
	}
	for _, r := range l.directory.Relays() {
		n += elsewhere[r.Incarnation]
	}
	return n
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
	if l.clock().Sub(u.asked) > l.bytesEvery {
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

// ask returns a user, and has it read again if that was long ago. The caller holds the lock.
func (l *Limits) ask(name string) *sharedUser {
	u := l.user(name)
	if l.clock().Sub(u.asked) > freshFor {
		l.dirty[name] = true
	}
	return u
}

// turn makes day the day of the bytes.
func (u *sharedUser) turn(day string) {
	if day > u.day {
		u.day, u.bytes, u.bytesElsewhere = day, 0, nil
	}
}

// account tells Redis what a user has on a relay, removes what relays have not confirmed for long, because they are dead, and returns what
// the user has on each relay: how many pairs of incarnation and number of relayed addresses there are, those pairs, and then those of
// bytes.
//
// KEYS: held, day. ARGV: incarnation, relayed addresses, bytes, for how many ms what is held is kept, and for how many bytes are.
var account = newScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] == '0' then
	redis.call('HDEL', KEYS[1], ARGV[1])
else
	redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. string.format('%d', now))
	redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
if ARGV[3] ~= '0' then
	redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
	redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
local all, held = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
	local n, at = string.match(all[i + 1], '^(%d+) (%d+)$')
	if n and now - at < tonumber(ARGV[4]) then
		table.insert(held, all[i])
		table.insert(held, n)
	else
		redis.call('HDEL', KEYS[1], all[i])
	end
end
local result = {tostring(#held / 2)}
for _, list in ipairs({held, redis.call('HGETALL', KEYS[2])}) do
	for _, value in ipairs(list) do table.insert(result, value) end
end
return result
`)

// accountKeys returns the keys of a user, in a slot of its own. They do not disclose the name.
func (l *Limits) accountKeys(user, day string) []string {
	id := l.sealer.field("user " + user)
	if l.sealer == nil {
		sum := sha256.Sum256([]byte(user))
		id = hex.EncodeToString(sum[:16])
	}
	prefix := l.directory.settings.Block.KeyPrefix.V + ":1:{" + id + "}:"
	return []string{prefix + "held", prefix + "day:" + day}
}

// sweep tells Redis what has changed, and reads what is elsewhere.
func (l *Limits) sweep(ctx context.Context) {
	names := l.begin(ctx)
	for chunk := range slices.Chunk(names, usersPerSweep) {
		if err := l.exchange(ctx, chunk); err != nil {
			l.mu.Lock()
			l.fail()
			for _, name := range names { // so that prune keeps those who hold nothing any more, which Redis does not know yet
				l.dirty[name] = true
			}
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

// exchange does a sweep for some users, in one round trip. It returns an error if Redis does not answer, and puts off those users whom
// alone Redis refuses.
func (l *Limits) exchange(ctx context.Context, names []string) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	keys, args := make([][]string, len(names)), make([][]any, len(names))
	l.mu.Lock()
	for i, name := range names {
		u := l.user(name)
		keys[i] = l.accountKeys(name, u.day)
		args[i] = []any{l.incarnation, u.held, strconv.FormatUint(u.bytes, 10), keepHeld.Milliseconds(), keepDay.Milliseconds()}
	}
	l.mu.Unlock()
	answers := make([]*redis.Cmd, len(names))
	pipeline := l.directory.client.Pipeline()
	for i := range names {
		answers[i] = account.EvalSha(limited, pipeline, keys[i], args[i]...)
	}
	_, err := pipeline.Exec(limited)
	if err != nil { // some servers may not know the script
		pipeline = l.directory.client.Pipeline()
		for i := range names {
			if redis.HasErrorPrefix(answers[i].Err(), "NOSCRIPT") {
				answers[i] = account.Eval(limited, pipeline, keys[i], args[i]...)
			}
		}
		_, _ = pipeline.Exec(limited) // each answer has its error
	}
	now := l.clock()
	for i, name := range names {
		values, err := answers[i].StringSlice()
		if err == nil {
			err = l.learn(name, keys[i][1], values, now)
		}
		if err != nil && !Refused(err) && !errors.Is(err, errForeign) {
			return err
		}
		if isForeign(err) {
			l.directory.clean(limited, hashKey, keys[i]...)
		}
		l.note(name, err)
	}
	return nil
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

// learn takes the answer of Redis about a user.
func (l *Limits) learn(name, dayKey string, values []string, now time.Time) error {
	if len(values) == 0 || len(values)%2 == 0 {
		return fmt.Errorf("the answer has %d values: %w", len(values), errForeign)
	}
	pairs, err := strconv.Atoi(values[0])
	if err != nil || pairs < 0 || pairs > len(values)/2 {
		return fmt.Errorf("the answer begins with %q: %w", values[0], errForeign)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.user(name)
	u.asked, u.heldElsewhere = now, make(map[string]int)
	bytes := make(map[string]uint64)
	for i := range len(values) / 2 {
		incarnation, text := values[1+2*i], values[2+2*i]
		if incarnation == l.incarnation {
			continue
		}
		if n, err := strconv.ParseUint(text, 10, 53); err == nil && i < pairs {
			u.heldElsewhere[incarnation] = int(n)
		} else if err == nil {
			bytes[incarnation] = n
		}
	}
	if strings.HasSuffix(dayKey, ":"+u.day) {
		u.bytesElsewhere = bytes
	}
	return nil
}

// prune forgets users who have nothing here today, and of whom nobody has asked for a while, and confirms what others hold. The caller
// holds the lock.
func (l *Limits) prune(now time.Time) {
	if now.Sub(l.pruned) < pruneEvery {
		return
	}
	l.pruned = now
	today := Day(now)
	for name, u := range l.users {
		if _, refused := l.refusals[name]; refused {
			continue
		}
		if u.held == 0 && (u.bytes == 0 || u.day < today) && now.Sub(u.asked) > pruneEvery && !l.dirty[name] {
			delete(l.users, name)
		} else if u.held > 0 && now.Sub(u.asked) > confirmEvery {
			l.dirty[name] = true
		}
	}
}

// Day returns the day of a time, in UTC, as SetBytes and Bytes take it.
func Day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
