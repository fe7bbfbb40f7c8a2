package cluster

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

// calls returns how many calls a user has elsewhere, and how many of these are earlier, as the relay knows it.
func (l limited) calls(user string) func() string {
	return func() string {
		n, earlier := l.Calls(user)
		return fmt.Sprint(n, " ", earlier)
	}
}

// TestSharedCalls has a user make calls on several relays. Each knows which of the others were there before its own latest one.
func TestSharedCalls(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, two, three := limit(t, settings, "1"), limit(t, settings, "2"), limit(t, settings, "3")
	for _, l := range []limited{one, two, three} {
		eventually(t, "relays", l.names, "relay1 relay2 relay3")
		l.Hold("alice", Holding{Addresses: 1})
	}
	told := func(l limited) func() string { // so many calls
		return func() string {
			l.Limits.mu.Lock()
			defer l.Limits.mu.Unlock()
			return fmt.Sprint(l.user("alice").storedCalls)
		}
	}
	one.Hold("alice", Holding{Addresses: 1, Calls: 1})
	eventually(t, "calls told by one", told(one), "1")
	two.Hold("alice", Holding{Addresses: 1, Calls: 1})
	eventually(t, "calls, on two", two.calls("alice"), "1 1")
	three.Hold("alice", Holding{Addresses: 1, Calls: 1})
	eventually(t, "calls, on three", three.calls("alice"), "2 2")
	one.Hold("alice", Holding{Addresses: 2, Calls: 1}) // asks again
	eventually(t, "calls, on one", one.calls("alice"), "2 0")

	one.Hold("alice", Holding{Addresses: 1})
	eventually(t, "calls after one has none, on three", three.calls("alice"), "1 1")
	one.Hold("alice", Holding{Addresses: 1, Calls: 1})
	eventually(t, "calls after another one on one, on one", one.calls("alice"), "2 2")
	eventually(t, "calls after another one on one, on three", three.calls("alice"), "2 1")
	eventually(t, "what alice has on two, seen by one", one.held("alice"), "2")

	// One relay dies, and then Redis.
	two.Limits.Stop()
	two.stop()
	<-two.stopped
	eventually(t, "calls without two, on three", three.calls("alice"), "1 0")
	redisServer.Stop()
	eventually(t, "calls while nobody knows", three.calls("alice"), "0 0")
}

// refusedError is an error that Redis answers.
type refusedError string

func (e refusedError) Error() string { return string(e) }
func (refusedError) RedisError()     {}

// TestForgottenWithoutRedis has relays ask about users while Redis does not answer. Those who hold nothing are forgotten, but not one who
// held something that Redis may still have, until Redis has forgotten it, too.
func TestForgottenWithoutRedis(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	one := NewLimits(newMachine(settingsFor(t, modeStandalone, redisServer.Addr), "relay1", "1").Directory, "1")
	client := one.directory.client
	defer client.Close()
	now := time.Now()
	one.clock = func() time.Time { return now }
	var failure error
	client.AddHook(hook(func(commands ...redis.Cmder) error {
		if commands[0].Name() == "evalsha" {
			return failure
		}
		return nil
	}))
	one.Hold("alice", Holding{Addresses: 1, Calls: 1})
	one.sweep(t.Context())
	one.Hold("alice", Holding{})
	for _, failure = range []error{io.ErrUnexpectedEOF, refusedError("ERR refused")} {
		for i := range 1000 {
			user := fmt.Sprint("user", i)
			one.Addresses(user)
			one.Bytes(user, Day(now))
			one.Hold(user, Holding{Addresses: 1})
			one.Hold(user, Holding{})
		}
		one.sweep(t.Context())
		now = now.Add(30 * time.Second)
		one.Addresses("bob")
		now = now.Add(pruneEvery - time.Second)
		one.sweep(t.Context())
		if n, bob := len(one.users), one.users["bob"]; n != 2 || bob == nil {
			t.Errorf("%v: %d users are remembered, want alice and bob", failure, n)
		}
	}
	now = now.Add(keepHeld)
	one.sweep(t.Context())
	if n := len(one.users) + len(one.dirty) + len(one.refusals); n != 0 {
		t.Errorf("%d users, %d of them for the next sweep, and %d refused ones are remembered, want none",
			len(one.users), len(one.dirty), len(one.refusals))
	}
}
