package cluster

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

// limited is a relay that shares limits.
type limited struct {
	*machine
	*Limits
}

func limit(t *testing.T, settings Settings, incarnation string) limited {
	t.Helper()
	m := join(t, settings, "relay"+incarnation, incarnation)
	l := limited{m, NewLimits(m.Directory, incarnation)}
	l.every, l.Limits.bytesEvery = 10*time.Millisecond, 20*time.Millisecond
	l.Limits.Start()
	t.Cleanup(l.Limits.Stop)
	return l
}

// held returns what a user has elsewhere, as the relay knows it.
func (l limited) held(user string) func() string {
	return func() string { return fmt.Sprint(l.Addresses(user)) }
}

func TestLimits(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, two := limit(t, settings, "1"), limit(t, settings, "2")
	eventually(t, "relays", two.names, "relay1 relay2")
	one.Hold("alice", Holding{Addresses: 3})
	one.Hold("bob", Holding{Addresses: 1})
	two.Hold("alice", Holding{Addresses: 2})
	eventually(t, "what alice has on one", two.held("alice"), "3")
	eventually(t, "what alice has on two", one.held("alice"), "2")
	eventually(t, "what carol has on one", two.held("carol"), "0")
	one.Hold("alice", Holding{Addresses: 1})
	eventually(t, "what alice still has on one", two.held("alice"), "1")

	day, bytes := Day(time.Now()), func(l limited, user string) func() string {
		return func() string { return fmt.Sprint(l.Bytes(user, Day(time.Now()))) }
	}
	one.SetBytes("alice", day, 1<<40)
	eventually(t, "bytes of alice on one", bytes(two, "alice"), fmt.Sprint(1<<40))
	if got := two.Bytes("alice", "9999-12-31"); got != 0 {
		t.Errorf("%d bytes on another day", got)
	}

	// Redis is away, for so long that its answers may no longer be true, and loses everything.
	redisServer.Stop()
	began := time.Now()
	one.Hold("alice", Holding{Addresses: 4})
	one.Addresses("alice")
	if took := time.Since(began); took > 100*time.Millisecond {
		t.Errorf("while Redis does not answer, a relay waits for %v", took)
	}
	eventually(t, "what alice has elsewhere while nobody knows", two.held("alice"), "0")
	redisServer.Kill()
	redisServer.Run(t)
	eventually(t, "what alice has on one, after a restart", two.held("alice"), "4")
	eventually(t, "what bob has on one, after a restart", two.held("bob"), "1")

	// One relay dies, and gives back what it held.
	one.Limits.Stop()
	one.stop()
	<-one.stopped
	eventually(t, "what alice had on a relay that has died", two.held("alice"), "0")
	key := two.accountKeys("alice", day)[0]
	if strings.Contains(key, "alice") {
		t.Errorf("a key discloses the account: %s", key)
	}
}

// TestLimitsCost counts the operations of Redis for many allocations: at most one for each.
func TestLimitsCost(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one := limit(t, settings, "1")
	eventually(t, "relays", one.names, "relay1")
	const users = 3000
	for n := 1; n <= 4; n++ {
		for i := range users {
			one.Addresses(fmt.Sprint(i))
			one.Calls(fmt.Sprint(i))
			one.Hold(fmt.Sprint(i), Holding{Addresses: n, Calls: n / 4})
		}
	}
	client := settings.client()
	defer client.Close()
	stored := func() string {
		var all string
		for _, i := range []int{0, users / 2, users - 1} {
			held, _, _ := strings.Cut(client.HGet(t.Context(), one.accountKeys(fmt.Sprint(i), "")[0], "1").Val(), " ")
			all += held
		}
		return all
	}
	eventually(t, "what three users hold", stored, "444")
	eventually(t, "one operation for each user", func() string { return fmt.Sprint(scriptCalls(t, client) >= users) }, "true")
	calls := scriptCalls(t, client)
	if calls > 4*users {
		t.Errorf("%d operations for %d allocations", calls, 4*users)
	}
	t.Logf("%d operations for %d allocations of %d users", calls, 4*users, users)
}

// scriptCalls returns how many scripts Redis has run.
func scriptCalls(t *testing.T, client redis.UniversalClient) (calls int) {
	t.Helper()
	stats, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"eval", "evalsha"} {
		n := 0
		_, rest, _ := strings.Cut(stats, "cmdstat_"+command+":calls=")
		_, _ = fmt.Sscanf(rest, "%d", &n) // none if it was not called
		calls += n
	}
	return calls
}

// TestLimitsMeet has two relays reach different Redis servers, and then the same one.
func TestLimitsMeet(t *testing.T) {
	t.Parallel()
	first, second := redistest.Start(t), redistest.Start(t)
	one, two := limit(t, settingsFor(t, modeStandalone, first.Addr), "1"), limit(t, settingsFor(t, modeStandalone, second.Addr), "2")
	one.Hold("alice", Holding{Addresses: 1})
	two.Hold("alice", Holding{Addresses: 2})
	eventually(t, "what alice has elsewhere", one.held("alice"), "0")
	second.Kill()
	eventually(t, "two is alone", two.names, "")
	two.Limits.Stop()
	again := limit(t, settingsFor(t, modeStandalone, first.Addr), "2b")
	again.Hold("alice", Holding{Addresses: 2}) // as after an upgrade
	eventually(t, "what alice has elsewhere when the halves meet", one.held("alice"), "2")
	eventually(t, "what alice has elsewhere when the halves meet", again.held("alice"), "1")
}

func FuzzLimitsAnswer(f *testing.F) {
	f.Add("1\n2\n3\nb\n7")
	f.Add("0")
	f.Add("-1\na\n1")
	f.Add("2\na\n1\nb\nx")
	f.Add("3\nb calls\n1\n1 calls\n7\n calls\n2")
	f.Fuzz(func(t *testing.T, text string) {
		l := &Limits{incarnation: "1", users: make(map[string]*sharedUser)}
		_ = l.learn("alice", Holding{1, 1}, "held:2026-11-30", strings.Split(text, "\n"), time.Now())
		for incarnation, held := range l.user("alice").elsewhere {
			if held.Addresses < 0 || held.Calls < 0 || incarnation == "1" {
				t.Errorf("%q: %d", incarnation, held)
			}
		}
	})
}

// TestLimitsOfARefusedUser has somebody else write to the keys of one user. Redis is not asked about the others again and again, and
// counts what the user has after a moment.
func TestLimitsOfARefusedUser(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, two := limit(t, settings, "1"), limit(t, settings, "2")
	eventually(t, "relays", two.names, "relay1 relay2")
	const users = 100
	for i := range users {
		one.Hold(fmt.Sprint(i), Holding{Addresses: 1})
	}
	eventually(t, "what the last user has on one", two.held(fmt.Sprint(users-1)), "1")
	client := settings.client()
	defer client.Close()
	if err := client.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.Set(t.Context(), one.accountKeys("7", "")[0], "something else", 0).Err(); err != nil {
		t.Fatal(err)
	}
	one.Hold("7", Holding{Addresses: 2})
	eventually(t, "what the user has on one", two.held("7"), "2")
	if n := scriptCalls(t, client); n >= users {
		t.Errorf("%d operations for one user", n)
	}
	for _, want := range []string{"removed a key", "does not count", "counts what all users have again"} {
		if n := one.log.count(want) + two.log.count(want); n < 1 || n > 2 {
			t.Errorf("%q was logged %d times", want, n)
		}
	}
}

// hook runs before each command and each pipeline of a client, and ends it with its error if there is one.
type hook func(commands ...redis.Cmder) error

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, c redis.Cmder) error {
		if err := h(c); err != nil {
			c.SetErr(err)
			return err
		}
		return next(ctx, c)
	}
}

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		if err := h(commands...); err != nil {
			for _, c := range commands {
				c.SetErr(err)
			}
			return err
		}
		return next(ctx, commands)
	}
}

// TestLimitsDoNotWait wants nothing to be locked while Redis is asked, because relays call Held and Hold for each allocation.
func TestLimitsDoNotWait(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	one := NewLimits(newMachine(settingsFor(t, modeStandalone, redisServer.Addr), "relay1", "1").Directory, "1")
	client := one.directory.client
	defer client.Close()
	epoch := sharedKey("mailturn", "epoch")
	if err := client.Set(t.Context(), epoch, "something else", 0).Err(); err != nil {
		t.Fatal(err)
	}
	var locked atomic.Value
	client.AddHook(hook(func(commands ...redis.Cmder) error {
		if one.mu.TryLock() {
			one.mu.Unlock()
		} else {
			locked.Store(fmt.Sprint(commands))
		}
		return nil
	}))
	one.Hold("alice", Holding{Addresses: 1})
	one.sweep(t.Context())
	if command := locked.Load(); command != nil {
		t.Errorf("locked during %v", command)
	}
	if n, err := client.Exists(t.Context(), epoch).Result(); err != nil || n != 0 {
		t.Errorf("the foreign key: %d, %v", n, err)
	}
}

// TestLimitsAfterAFailedSweep has Redis fail when it is told that a user holds nothing any more, and for some minutes. It learns that
// afterwards.
func TestLimitsAfterAFailedSweep(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	one := NewLimits(newMachine(settingsFor(t, modeStandalone, redisServer.Addr), "relay1", "1").Directory, "1")
	client := one.directory.client
	defer client.Close()
	now := time.Now()
	one.clock = func() time.Time { return now }
	failing := false
	client.AddHook(hook(func(commands ...redis.Cmder) error {
		if failing && len(commands) > 0 && commands[0].Name() == "evalsha" {
			return io.ErrUnexpectedEOF
		}
		return nil
	}))
	stored := func() int64 {
		t.Helper()
		n, err := client.HLen(t.Context(), one.accountKeys("alice", "")[0]).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	one.Hold("alice", Holding{Addresses: 1})
	one.sweep(t.Context())
	if n := stored(); n != 1 {
		t.Fatalf("%d relays hold something for the user, want 1", n)
	}
	now = now.Add(2 * pruneEvery) // the call
	one.Hold("alice", Holding{Addresses: 0})
	failing = true
	for range 3 {
		one.sweep(t.Context())
		now = now.Add(2 * pruneEvery)
	}
	failing = false
	one.sweep(t.Context())
	if n := stored(); n != 0 {
		t.Errorf("%d relays hold something for the user, want none", n)
	}
}

// TestLimitsTellAtTheEnd stops a relay after a change that it has not told yet.
func TestLimitsTellAtTheEnd(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	one := NewLimits(newMachine(settingsFor(t, modeStandalone, redisServer.Addr), "relay1", "1").Directory, "1")
	client := one.directory.client
	defer client.Close()
	one.every = time.Hour
	one.Start()
	day := Day(time.Now())
	one.sweep(t.Context()) // so that bytes are to be told later
	one.SetBytes("alice", day, 7)
	one.Hold("alice", Holding{Addresses: 2})
	one.Stop()
	keys := one.accountKeys("alice", day)
	held, _, _ := strings.Cut(client.HGet(t.Context(), keys[0], "1").Val(), " ")
	if bytes := client.HGet(t.Context(), keys[1], "1").Val(); held != "2" || bytes != "7" {
		t.Errorf("Redis has %q relayed addresses and %q bytes, want 2 and 7", held, bytes)
	}
}
