package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

// TestRepeatedEvent has somebody who can write to Redis repeat an event of a machine, which counts once.
func TestRepeatedEvent(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	settings := withKey(settingsFor(t, modeStandalone, redisServer.Addr))
	one, two := newSharer().share(t, settings, "1", ""), newSharer().share(t, settings, "2", "")
	if err := one.set(t, "a", "1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "entries", two.values, "a=1") // two reads the stream
	if err := one.Tell(t.Context(), "end"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "events", two.happened, "end")
	client := settings.client()
	defer client.Close()
	key := one.key("changes")
	last, err := client.XRevRangeN(t.Context(), key, "+", "-", 1).Result()
	if err != nil || len(last) != 1 {
		t.Fatal(last, err)
	}
	for range 3 {
		if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: key, Values: last[0].Values}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := one.Tell(t.Context(), "later"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "events", func() string {
		if events := two.happened(); strings.HasSuffix(events, "later") {
			return events
		}
		return ""
	}, "end later")
	if n := two.log.count("it is known already"); n != 1 {
		t.Errorf("%d lines about repetitions", n)
	}
}

func TestOpenEvent(t *testing.T) {
	now := time.Now()
	text := func(at time.Time, event string) string { return fmt.Sprintf("%d %s", at.UnixMicro(), event) }
	x := &Exchange{latest: make(map[string]int64)}
	for i, tt := range []struct {
		from, text, want string
	}{
		{"1", text(now, "a b"), "a b"},
		{"1", text(now, "a b"), ""},
		{"1", text(now.Add(-time.Second), "before"), ""},
		{"2", text(now.Add(-time.Second), "of another"), "of another"},
		{"1", text(now.Add(time.Microsecond), "next"), "next"},
		{"3", text(now.Add(-maxEventAge-time.Second), "old"), ""},
		{"3", text(now.Add(maxEventAge+time.Second), "early"), ""},
		{"3", "event", ""},
		{"3", text(now, strings.Repeat("x", maxEvent+1)), ""},
		{strings.Repeat("x", maxName+1), text(now, "a"), ""},
	} {
		if got, err := x.openEvent(tt.from, tt.text, now); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%d: %q, %v, want %q", i, got, err, tt.want)
		}
	}
	for i := range 2 * maxRelays {
		_, _ = x.openEvent(fmt.Sprint("many", i), text(now, "a"), now)
	}
	if n := len(x.latest); n > maxRelays {
		t.Errorf("remembers %d machines", n)
	}
	later := now.Add(2 * maxEventAge)
	if event, err := x.openEvent("4", text(later, "a"), later); event != "a" || len(x.latest) != 1 {
		t.Errorf("%q, %v, and remembers %d machines", event, err, len(x.latest))
	}
}

func TestEarlierID(t *testing.T) {
	ids := []string{"0", "0-1", "9-0", "9-9", "9-10", "10-2", "18446744073709551615-1"}
	for i, a := range ids {
		for j, b := range ids {
			if got := earlierID(a, b); got != (i < j) {
				t.Errorf("%s before %s: %v", a, b, got)
			}
		}
	}
}

// TestEventsOfAnotherClock wants one warning about a clock that differs, whatever else was ignored, and none about an event that is
// read late.
func TestEventsOfAnotherClock(t *testing.T) {
	log := new(logged)
	x := &Exchange{logger: slog.New(slog.NewTextHandler(log, nil)), latest: make(map[string]int64), backlog: "100-0"}
	apply := func(id, event string) {
		x.applyChanges([]redis.XMessage{{ID: id, Values: map[string]any{"from": "1", "event": event}}})
	}
	early := fmt.Sprintf("%d end", time.Now().Add(-maxEventAge-time.Minute).UnixMicro())
	apply("99-0", "something else")
	apply("100-0", early) // was told before everything was exchanged
	if n := log.count("whose clock differs"); n != 0 {
		t.Errorf("a late event was logged: %v", &log.text)
	}
	for id := range 3 {
		apply(fmt.Sprintf("101-%d", id), early)
	}
	if n := log.count("whose clock differs; more are ignored without a message\" difference=6m0s"); n != 1 {
		t.Errorf("%d warnings:\n%v", n, &log.text)
	}
}

// TestPersistentFailure has the Exchange fail without an answer of Redis while the Directory is well.
func TestPersistentFailure(t *testing.T) {
	log := new(logged)
	directory := &Directory{read: time.Now()}
	x := &Exchange{directory: directory, logger: slog.New(slog.NewTextHandler(log, nil))}
	directory.err = io.ErrUnexpectedEOF
	for range 2 * loggedFailures {
		x.note(context.DeadlineExceeded)
	}
	directory.err = nil
	for range loggedFailures - 1 {
		x.note(context.DeadlineExceeded)
	}
	if n := log.count("level=ERROR"); n != 0 {
		t.Errorf("logged too early:\n%v", &log.text)
	}
	for range loggedFailures {
		x.note(context.DeadlineExceeded)
	}
	x.note(nil)
	x.note(context.DeadlineExceeded)
	if failures, successes := log.count("are not shared"), log.count("shared again"); failures != 1 || successes != 1 {
		t.Errorf("%d lines about the failure, %d about its end:\n%v", failures, successes, &log.text)
	}
}

// TestForeignKeys has somebody else write to the keys of a cluster. What mailturn stores there spreads nevertheless, and the log says
// that something was removed or ignored.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	relays, requests := relayKeys("mailturn"), requestKeys("mailturn")[0]
	entries, changes, issuers := sharedKey("mailturn", "entries"), sharedKey("mailturn", "changes"), sharedKey("mailturn", "issuers")
	for name, write := range map[string]func(redis.Pipeliner, *Exchange){
		"other types": func(p redis.Pipeliner, _ *Exchange) {
			for _, key := range slices.Concat(relays, []string{requests, entries, changes, issuers, sharedKey("mailturn", "names:A")}) {
				p.Set(t.Context(), key, "something else", 0)
			}
		},
		"other values": func(p redis.Pipeliner, x *Exchange) {
			for i := range maxIssuers {
				p.HSet(t.Context(), issuers, i, "something else")
			}
			for _, key := range []string{relays[0], requests} {
				p.HSet(t.Context(), key, "one", "something else")
			}
			p.ZAdd(t.Context(), relays[1], redis.Z{Score: float64(time.Now().UnixMilli()), Member: "something else"})
			p.HSet(t.Context(), entries, "something", "else", x.sealer.field("a"), "9000000000000000000 9000000000000 something else")
			p.XAdd(t.Context(), &redis.XAddArgs{Stream: changes, Values: []string{"something", "else"}})
			p.XAdd(t.Context(), &redis.XAddArgs{Stream: sharedKey("mailturn", "names:A"), Values: []string{"something", "else"}})
		},
		"a full stream": func(p redis.Pipeliner, _ *Exchange) {
			p.XAdd(t.Context(), &redis.XAddArgs{Stream: changes, ID: "18446744073709551615-18446744073709551615", Values: []string{"something", "else"}})
		},
		"a full stream, emptied": func(p redis.Pipeliner, _ *Exchange) {
			const last = "18446744073709551615-18446744073709551615"
			for _, key := range []string{changes, sharedKey("mailturn", "names:A")} {
				p.XAdd(t.Context(), &redis.XAddArgs{Stream: key, ID: last, Values: []string{"something", "else"}})
				p.XDel(t.Context(), key, last)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redisServer := redistest.Start(t)
			settings := withKey(settingsFor(t, modeStandalone, redisServer.Addr))
			client := settings.client()
			defer client.Close()
			pipeline := client.Pipeline()
			write(pipeline, &Exchange{sealer: newSealer(settings.key())})
			if _, err := pipeline.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			relay := newMachine(settings, "relay", "1")
			served := make(chan Request, 1)
			relay.Serve(func(r Request) { served <- r })
			relay.Start()
			t.Cleanup(relay.Stop)
			eventually(t, "relays", relay.names, "relay")
			one, two := newSharer(), newSharer()
			one.apply([]Entry{{Name: "a", Stamp: 5, Until: time.Now().Add(time.Hour), Value: "1"}})
			one.share(t, settings, "1", "A")
			two.share(t, settings, "2", "B")
			eventually(t, "entries", two.values, "a=1")
			eventually(t, "zeros", func() string { return fmt.Sprint(one.begins() != "-1" && one.shared.Names.lastPublished() != "") }, "true")
			one.issue(2_000_000_000, "alice")
			eventually(t, "names", func() string { return fmt.Sprint(strings.Contains(two.known(), "alice")) }, "true")
			if err := relay.Ask(t.Context(), NewRequest(Upgrade, "two", relay.Relays()[0], nil)); err != nil {
				t.Error(err)
			}
			<-served
			lines := relay.log.count("removed a key") + one.log.count("removed a key") + two.log.count("removed a key") +
				relay.log.count("ignoring") + one.log.count("ignoring") + two.log.count("ignoring")
			if lines < 1 || lines > 6 {
				t.Errorf("%d lines:\n%v%v%v", lines, &relay.log.text, &one.log.text, &two.log.text)
			}
		})
	}
}

// TestRoomOfEntriesThatHaveEnded fills Redis with entries that have ended or cannot be read. They leave room for others.
func TestRoomOfEntriesThatHaveEnded(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one := newSharer().connect(t, settings, "1", "")
	one.apply([]Entry{{Name: "a", Stamp: 5, Until: time.Now().Add(time.Hour), Value: "1"}})
	pipeline := one.directory.client.Pipeline()
	for i := range MaxEntries {
		e := Entry{Name: fmt.Sprint(i), Stamp: 5, Until: time.Now().Add(-time.Second)}
		field, text, err := e.encode(one.sealer)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			text = "something else"
		}
		pipeline.HSet(t.Context(), one.key("entries"), field, text)
	}
	if _, err := pipeline.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := one.exchange(t.Context()); err != nil {
		t.Error(err)
	}
	if n, err := one.directory.client.HLen(t.Context(), one.key("entries")).Result(); err != nil || n != 1 {
		t.Errorf("%d entries, %v, want 1", n, err)
	}
}

// TestEntryThatIsTooLong wants a machine that holds an entry which cannot be shared to share the others.
func TestEntryThatIsTooLong(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one := newSharer()
	until := time.Now().Add(time.Hour)
	one.apply([]Entry{
		{Name: "a", Stamp: 5, Until: until, Value: "1"},
		{Name: "b", Stamp: 5, Until: until, Value: strings.Repeat("<", maxEntry)},
		{Name: "c", Stamp: 5, Until: until, Value: "3"},
	})
	one.share(t, settings, "1", "")
	two := newSharer().share(t, settings, "2", "")
	eventually(t, "entries", two.values, "a=1 c=3")
	if n := one.log.count("an entry is not shared"); n != 1 {
		t.Errorf("%d lines about it", n)
	}
	if err := one.set(t, "b", strings.Repeat("<", maxEntry)); err == nil {
		t.Error("no error for the entry alone")
	}
}

// TestLongestBan wants the longest ban, whose bytes JSON escapes twice, to be short enough.
func TestLongestBan(t *testing.T) {
	value := `{"account":"` + strings.Repeat(`\u003c`, 255) + `","reason":"` + strings.Repeat(`\u003c`, 200) + `"}`
	e := Entry{Name: "ban account " + strings.Repeat("<", 255), Stamp: 5, Until: time.UnixMilli(7), Value: value}
	s := newSealer([]byte(strings.Repeat("k", MinKey)))
	field, text, err := e.encode(s)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseEntry(s, field, text); err != nil || got.Value != value {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestEntryBeyondTime checks that nobody who can write to Redis makes an entry whose times cannot be stored.
func TestEntryBeyondTime(t *testing.T) {
	const content = `{"name":"ban account alice@example.org","value":"{}"}`
	for _, tt := range []struct {
		head string
		ok   bool
	}{
		{"1 253402300799999 ", true},
		{"1 253402300800000 ", false},
		{"1 9223372036854775807 ", false},
		{"9223372036854775807 1 ", false},
		{"1 -1 ", false},
	} {
		e, err := parseEntry(nil, "ban account alice@example.org", tt.head+content)
		if (err == nil) != tt.ok {
			t.Errorf("%q: %v", tt.head, err)
		}
		if _, err := json.Marshal(e.Until); err != nil || e.Until.Location() != time.UTC {
			t.Errorf("%q: %v in %v, %v", tt.head, e.Until, e.Until.Location(), err)
		}
	}
}
