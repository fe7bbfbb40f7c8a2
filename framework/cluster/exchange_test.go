package cluster

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
	"github.com/mailturn/mailturn/framework/config"
)

// sharer is a machine that shares entries and names, in memory.
type sharer struct {
	*Exchange
	log *logged

	mu      sync.Mutex // guards what follows
	entries map[string]Entry
	events  []string
	zeros   int
	issued  map[string]string // account by user name
	fresh   []Name
	learned map[string]string
	own     map[string]string // learned as own
}

func (s *sharer) held() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.entries))
}

func (s *sharer) apply(entries []Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		if old, ok := s.entries[e.Name]; !ok || e.Stamp >= old.Stamp {
			s.entries[e.Name] = e
		}
	}
}

// set makes the machine hold an entry, and publishes it.
func (s *sharer) set(t *testing.T, name, value string) error {
	t.Helper()
	s.mu.Lock()
	e := Entry{Name: name, Stamp: NextStamp(time.Now(), s.entries[name].Stamp), Until: time.Now().Add(time.Hour), Value: value}
	s.entries[name] = e
	s.mu.Unlock()
	return s.Publish(t.Context(), e)
}

// values returns what the machine holds.
func (s *sharer) values() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		texts = append(texts, name+"="+s.entries[name].Value)
	}
	return strings.Join(texts, " ")
}

func (s *sharer) happened() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.events, " ")
}

// issue issues a name.
func (s *sharer) issue(second int, account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := Name{strings.Repeat("0", s.zeros) + fmt.Sprint(second), account}
	s.issued[name.Username] = account
	s.fresh = append(s.fresh, name)
}

func (s *sharer) known() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.learned)
}

func (s *sharer) begins() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.zeros)
}

func newSharer() *sharer {
	return &sharer{
		log: new(logged), entries: make(map[string]Entry), zeros: -1, issued: make(map[string]string),
		learned: make(map[string]string), own: make(map[string]string),
	}
}

// share starts a machine that shares, and issues if issuer is not empty.
func (s *sharer) share(t *testing.T, settings Settings, id, issuer string) *sharer {
	t.Helper()
	s.connect(t, settings, id, issuer)
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// connect does what share does, except that the test calls what the Exchange would do by itself.
func (s *sharer) connect(t *testing.T, settings Settings, id, issuer string) *sharer {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(s.log, nil))
	directory := New(settings, func() []Relay { return nil }, logger)
	directory.interval, directory.lifetime = 50*time.Millisecond, 500*time.Millisecond
	directory.Start()
	t.Cleanup(directory.Stop)
	s.Exchange = NewExchange(directory, id, Shared{
		Held: s.held, Apply: s.apply,
		Happened: func(event string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, event)
		},
		Names: &Names{
			Issuer: issuer, Lifetime: time.Hour, Zeros: -1,
			SetZeros: func(n int) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.zeros = n
			},
			Issued: func() ([]Name, bool) {
				s.mu.Lock()
				defer s.mu.Unlock()
				fresh := s.fresh
				s.fresh = nil
				return fresh, true
			},
			All: func() (names []Name) {
				s.mu.Lock()
				defer s.mu.Unlock()
				for username, account := range s.issued {
					names = append(names, Name{username, account})
				}
				return names
			},
			Learn: func(names []Name, own bool) {
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, name := range names {
					if own {
						s.own[name.Username] = name.Account
					} else {
						s.learned[name.Username] = name.Account
					}
				}
			},
		},
	}, logger)
	t.Cleanup(func() { s.waits.Close() })
	return s
}

// withKey returns settings with a key.
func withKey(settings Settings) Settings {
	settings.Block.Key = config.Value[string]{V: strings.Repeat("k", MinKey), Set: true}
	return settings
}

func TestExchange(t *testing.T) {
	t.Parallel()
	for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redisServer := redistest.Start(t)
			settings := settingsFor(t, modeStandalone, redisServer.Addr)
			if encrypted {
				settings = withKey(settings)
			}
			one, two := newSharer().share(t, settings, "1", ""), newSharer().share(t, settings, "2", "")
			if err := one.set(t, "ban alice", "a"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "entries of two", two.values, "ban alice=a")
			began := time.Now()
			if err := two.set(t, "ban alice", ""); err != nil {
				t.Fatal(err)
			}
			eventually(t, "entries of one", one.values, "ban alice=")
			if took := time.Since(began); took > time.Second {
				t.Errorf("another machine knows after %v", took)
			}
			if err := one.Tell(t.Context(), "end"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "events of two", two.happened, "end")
			if got := one.happened(); got != "" {
				t.Errorf("one is told its own event: %s", got)
			}

			late := newSharer().share(t, settings, "3", "")
			eventually(t, "entries of a machine that joins later", late.values, "ban alice=")
			client := settings.client()
			defer client.Close()
			fields, err := client.HGetAll(t.Context(), sharedKey("mailturn", "entries")).Result()
			if err != nil || len(fields) != 1 {
				t.Fatalf("%v, %v", fields, err)
			}
			if got := strings.Contains(fmt.Sprint(fields), "alice"); got == encrypted {
				t.Errorf("the account is readable: %v, %q", got, fields)
			}
		})
	}
}

// TestEventBeforeExchange has a machine exchange everything before it has read an event, which it reads afterwards.
func TestEventBeforeExchange(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, two := newSharer().connect(t, settings, "1", ""), newSharer().connect(t, settings, "2", "")
	for _, event := range []string{"before two joins", "a", "b"} {
		if err := one.Tell(t.Context(), event); err != nil {
			t.Fatal(err)
		}
		if err := two.exchange(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := two.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := two.happened(); got != "a b" {
		t.Errorf("events of two: %q, want those since it has joined", got)
	}
}

// TestEventAfterClockWasAhead has the clock of a machine set back by an hour. The others take its next event.
func TestEventAfterClockWasAhead(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, two := newSharer().connect(t, settings, "1", ""), newSharer().connect(t, settings, "2", "")
	if err := two.exchange(t.Context()); err != nil {
		t.Fatal(err)
	}
	one.told = time.Now().Add(time.Hour).UnixMicro()
	for _, event := range []string{"a", "b"} {
		if err := one.Tell(t.Context(), event); err != nil {
			t.Fatal(err)
		}
	}
	if err := two.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := two.happened(); got != "a b" {
		t.Errorf("events of two: %q, want both", got)
	}
}

// TestExchangeAfterLoss has Redis restart empty, while one machine is away and another one changes what it knows.
func TestExchangeAfterLoss(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, two := newSharer().share(t, settings, "1", "A"), newSharer().share(t, settings, "2", "")
	for _, name := range []string{"a", "b"} {
		if err := one.set(t, name, "1"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "zeros", one.begins, "0")
	one.issue(2_000_000_000, "alice")
	eventually(t, "entries", two.values, "a=1 b=1")
	eventually(t, "names", two.known, "map[2000000000:alice]")
	away := newSharer()
	away.apply(two.held())

	redisServer.Kill()
	if err := one.set(t, "a", ""); err == nil {
		t.Error("no error while there is no Redis")
	}
	one.issue(2_000_000_001, "bob")
	for _, s := range []*sharer{one, two} {
		eventually(t, "lines about the outage", func() string { return fmt.Sprint(s.log.count("level=ERROR")) }, "1")
	}
	redisServer.Run(t)
	eventually(t, "entries after a restart", two.values, "a= b=1")
	eventually(t, "names after a restart", two.known, "map[2000000000:alice 2000000001:bob]")
	away.share(t, settings, "3", "")
	eventually(t, "entries of a machine that was away", away.values, "a= b=1")
	eventually(t, "names of a machine that was away", away.known, "map[2000000000:alice 2000000001:bob]")
	for _, s := range []*sharer{one, two} {
		if n := s.log.count("level=ERROR"); n != 1 {
			t.Errorf("%d lines about one outage", n)
		}
	}
}

// TestSplitBrain has two halves that reach different Redis servers, and then the same one.
func TestSplitBrain(t *testing.T) {
	t.Parallel()
	first, second := redistest.Start(t), redistest.Start(t)
	one := newSharer().share(t, settingsFor(t, modeStandalone, first.Addr), "1", "")
	two := newSharer().share(t, settingsFor(t, modeStandalone, second.Addr), "2", "")
	for _, err := range []error{one.set(t, "a", "one"), two.set(t, "b", "two"), one.set(t, "c", "one"), two.set(t, "c", "two")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	two.Stop()
	after := newSharer()
	after.apply(two.held())
	after.share(t, settingsFor(t, modeStandalone, first.Addr), "2", "")
	for _, s := range []*sharer{one, after} {
		eventually(t, "entries after the halves have met", s.values, "a=one b=two c=two")
	}
}

// TestIssuersHaveNamesOfTheirOwn checks that issuers get different numbers of zeros, and keep theirs.
func TestIssuersHaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	settings := withKey(settingsFor(t, modeStandalone, redisServer.Addr))
	one := newSharer().share(t, settings, "1", "A")
	eventually(t, "zeros of the first issuer", one.begins, "0")
	two := newSharer().share(t, settings, "2", "B")
	eventually(t, "zeros of the second issuer", two.begins, "1")
	one.issue(2_000_000_000, "alice")
	two.issue(2_000_000_000, "bob")
	eventually(t, "names that one learns", one.known, "map[02000000000:bob]")
	eventually(t, "names that two learns", two.known, "map[2000000000:alice]")

	two.Stop()
	again := newSharer().share(t, settings, "3", "B")
	eventually(t, "zeros after a restart", again.begins, "1")
	eventually(t, "own names after a restart", func() string {
		again.mu.Lock()
		defer again.mu.Unlock()
		return fmt.Sprint(again.own)
	}, "map[02000000000:bob]")
}

func FuzzParseEntry(f *testing.F) {
	field, text, err := Entry{Name: "ban alice", Stamp: 5, Until: time.UnixMilli(7), Value: "v"}.encode(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(field, text)
	f.Add("", "1 2 {")
	f.Add("x", "-1  ")
	f.Fuzz(func(t *testing.T, field, text string) {
		e, err := parseEntry(nil, field, text)
		if err != nil {
			return
		}
		again, text, err := e.encode(nil)
		if err != nil || again != field {
			return // a longer text than encode allows
		}
		if back, err := parseEntry(nil, field, text); err != nil || back.Name != e.Name || back.Value != e.Value || back.Stamp != e.Stamp {
			t.Errorf("%q: %+v, %v, want %+v", text, back, err, e)
		}
	})
}

// TestNamesAreNotLost wants names that are issued while all are published to be published afterwards.
func TestNamesAreNotLost(t *testing.T) {
	n := &Names{exchange: new(Exchange), Issued: func() ([]Name, bool) {
		t.Error("names were taken that cannot be published yet")
		return nil, true
	}}
	n.publish()
}

func FuzzParseNames(f *testing.F) {
	f.Add(`["2000000000","alice","02000000000","bob"]`)
	f.Add(`["2000000000"]`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		names, err := parseNames(text)
		if err != nil {
			return
		}
		again, err := encodeNames(names)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseNames(again); err == nil && !slices.Equal(back, names) {
			t.Errorf("%v became %v", names, back)
		}
	})
}

// TestDocumentedPermissions checks that an Exchange needs no more of Redis than the documentation lets its user do.
func TestDocumentedPermissions(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t, "user default off", "user mailturn on >sesame ~mailturn:* resetchannels "+aclCommands)
	settings := withKey(settingsFor(t, modeStandalone, redisServer.Addr))
	settings.Block.User.V, settings.Block.Password.V = "mailturn", "sesame"
	one, two := newSharer().share(t, settings, "1", "A"), newSharer().share(t, settings, "2", "")
	if err := one.set(t, "a", "1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "zeros", one.begins, "0")
	one.issue(2_000_000_000, "alice")
	eventually(t, "entries", two.values, "a=1")
	eventually(t, "names", two.known, "map[2000000000:alice]")
	const last = "18446744073709551615-18446744073709551615" // after which nothing can follow
	key := sharedKey("mailturn", "stream")
	if err := one.directory.client.XAdd(t.Context(), &redis.XAddArgs{Stream: key, ID: last, Values: []string{"something", "else"}}).Err(); err != nil {
		t.Fatal(err)
	}
	one.directory.clean(t.Context(), streamKey, key)
	if n, err := one.directory.client.XLen(t.Context(), key).Result(); err != nil || n != 0 {
		t.Errorf("the stream has %d messages, %v, and was to be removed", n, err)
	}
	for _, s := range []*sharer{one, two} {
		if n := s.log.count("level=ERROR"); n != 0 {
			t.Error(s.log.text.String())
		}
	}
}
