package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// world is a Redis server and the machines that use it, without the time that this takes.
type world struct {
	t        *testing.T
	entries  map[string]cluster.Entry
	claimed  map[string]bool
	machines []*machine
}

// machine is a relay that issues credentials.
type machine struct {
	*Keeper
	world     *world
	name      string
	connected bool
	old       bool // its version knows no rotation
	relayless bool
	log       strings.Builder
}

func newWorld(t *testing.T, names ...string) *world {
	w := &world{t: t, entries: make(map[string]cluster.Entry), claimed: make(map[string]bool)}
	for _, name := range names {
		w.add(name, filepath.Join(t.TempDir(), "secrets"))
	}
	return w
}

// settings are those of a cluster with a key.
func settings(t *testing.T, key string) cluster.Settings {
	t.Helper()
	file, diags := config.Parse("maddy.conf", []byte("cluster {\n redis = [\"rediss://localhost\"]\n key = \""+strings.Repeat(key, 32)+"\"\n}"))
	s, more := cluster.Decode(file.Cluster)
	if diags = append(diags, more...); diags.HasErrors() {
		t.Fatal(diags)
	}
	return s
}

func (w *world) add(name, path string) *machine {
	m := &machine{world: w, name: name, connected: true}
	m.Keeper = New(Config{
		Cluster: settings(w.t, "k"), Relays: m.relays, Publish: m.publish, Claim: m.claim, Changed: func() {}, Path: path,
		Logger: slog.New(slog.NewTextHandler(&m.log, nil)),
	})
	m.Configure(Settings{Lifetime: DefaultLifetime})
	w.machines = append(w.machines, m)
	return m
}

// relays returns those of the part of the network in which the machine is.
func (m *machine) relays() (relays []cluster.Relay) {
	for _, other := range m.world.machines {
		if other.connected == m.connected && m.connected && !other.relayless {
			r := cluster.Relay{Name: other.name, Own: other == m}
			if !other.old {
				r.Secrets = other.Announced()
			}
			relays = append(relays, r)
		}
	}
	return relays
}

func (m *machine) publish(_ context.Context, entries ...cluster.Entry) error {
	if !m.connected {
		return errors.New("no Redis")
	}
	for _, e := range entries {
		if e.Stamp > m.world.entries[e.Name].Stamp {
			m.world.entries[e.Name] = e
		}
	}
	return nil
}

func (m *machine) claim(_ context.Context, what string) (bool, error) {
	first := !m.world.claimed[what]
	m.world.claimed[what] = true
	return first && m.connected, nil
}

// exchange does what cluster.Exchange does.
func (m *machine) exchange() {
	if !m.connected || m.old {
		return
	}
	_ = m.publish(m.world.t.Context(), m.Held()...)
	var entries []cluster.Entry
	for _, e := range m.world.entries {
		entries = append(entries, e)
	}
	m.Merge(entries)
}

// pass lets time pass: each machine looks every second.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	step := max(time.Second, d/200)
	for range d / step {
		time.Sleep(step)
		for range 2 { // what one publishes, all learn at once
			for _, m := range w.machines {
				m.exchange()
			}
		}
		for _, m := range w.machines {
			if !m.old {
				m.tick(w.t.Context())
			}
		}
		w.check()
	}
}

// check checks that what a machine issues now is accepted by each relay that it can name.
func (w *world) check() {
	w.t.Helper()
	for _, m := range w.machines {
		for _, secret := range m.Ring().Issuing()[:min(len(m.Ring().Issuing()), 1)] {
			for _, other := range w.machines {
				if other.connected && m.connected && !other.old && !accepts(other, secret.ID) {
					w.t.Errorf("%s issues with %s, which %s does not accept", m.name, secret.ID, other.name)
				}
			}
		}
	}
}

func accepts(m *machine, id string) bool {
	return slices.ContainsFunc(m.Ring().Accepted(), func(s credential.Secret) bool { return cluster.SecretID(s.Bytes()) == id })
}

// issues returns the ID of the secret with which a machine issues.
func (m *machine) issues() string {
	if issuing := m.Ring().Issuing(); len(issuing) > 0 {
		return issuing[0].ID
	}
	return ""
}

func (m *machine) rotates(t *testing.T) string {
	t.Helper()
	id, _, err := m.Rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestRotate wants a secret to be accepted everywhere before it is issued anywhere, and the one before as long as its credentials.
func TestRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c")
		first := w.machines[1].rotates(t)
		if w.machines[1].issues() != "" {
			t.Error("a machine issues with a secret that nobody else knows")
		}
		w.pass(10 * time.Second)
		for _, m := range w.machines {
			if m.issues() != first {
				t.Errorf("%s issues with %q", m.name, m.issues())
			}
		}
		old := w.entries[prefix+first] // before it is replaced
		second := w.machines[2].rotates(t)
		w.pass(10 * time.Second)
		announced := w.machines[0].Announced()
		if !slices.Equal(announced, []string{second, first}) {
			t.Errorf("announced: %v", announced)
		}
		w.pass(announceFor)
		if announced := w.machines[0].Announced(); !slices.Equal(announced, []string{second}) {
			t.Errorf("announced after %v: %v", announceFor, announced)
		}
		w.pass(DefaultLifetime)
		if w.machines[0].issues() != second || !accepts(w.machines[0], first) {
			t.Error("a secret ends before the last credential that was issued with it")
		}
		w.pass(2 * margin)
		for _, m := range w.machines {
			if accepts(m, first) || !accepts(m, second) {
				t.Errorf("%s accepts %d secrets after the first one has ended", m.name, len(m.Ring().Accepted()))
			}
		}

		// Somebody who has copied what Redis had puts it back.
		w.machines[0].Merge([]cluster.Entry{old})
		w.pass(time.Second)
		if accepts(w.machines[0], first) {
			t.Error("a secret that has ended is accepted again")
		}
		w.pass(2 * leaseTime)
		if w.machines[0].issues() != second {
			t.Error("the secret in use has ended")
		}
	})
}

// TestRelayDoesNotAccept wants a secret to wait for a relay that does not accept it, and the log and the report to name that.
func TestRelayDoesNotAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "old")
		w.machines[2].old = true
		first := w.machines[1].rotates(t)
		w.pass(2 * overdueAfter)
		for _, m := range w.machines[:2] {
			if m.issues() != "" || !accepts(m, first) {
				t.Errorf("%s issues with %q", m.name, m.issues())
			}
			if report := m.Report(); len(report) != 1 || report[0].State != Waiting || !slices.Equal(report[0].Lacking, []string{"old"}) {
				t.Errorf("%s reports %+v", m.name, report)
			}
		}
		if n := strings.Count(w.machines[0].log.String(), "relays=old"); n != 1 {
			t.Errorf("%d warnings in the log:\n%s", n, &w.machines[0].log)
		}
		if _, _, err := w.machines[0].Rotate(t.Context()); !errors.Is(err, ErrRefused) {
			t.Errorf("another secret: %v", err)
		}
		w.machines[2].connected = false // it dies
		w.pass(10 * time.Second)
		if w.machines[0].issues() != first {
			t.Error("a machine that is down keeps the others waiting")
		}
		w.machines[2].old, w.machines[2].connected = false, true // and comes back with the new version
		w.pass(10 * time.Second)
		if !accepts(w.machines[2], first) {
			t.Error("a machine that was down does not know the secret")
		}
	})
}

// TestTwoRotations wants two secrets that the halves of a split network have made to be accepted everywhere, and the later one to be
// issued with.
func TestTwoRotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		w.machines[0].rotates(t)
		w.pass(10 * time.Second)
		a, b := w.machines[0], w.machines[1]
		before := w.entries
		w.entries, b.connected = make(map[string]cluster.Entry), false
		left := a.rotates(t)
		w.pass(10 * 24 * time.Hour)
		if a.issues() != left {
			t.Fatal("one half does not use its secret")
		}
		leftEntries := w.entries
		w.entries, a.connected, b.connected = before, false, true
		right := b.rotates(t)
		w.pass(10 * time.Second)
		if b.issues() != right {
			t.Fatal("the other half does not use its secret")
		}
		w.entries, a.connected = leftEntries, true
		w.pass(10 * time.Second)
		for _, m := range w.machines {
			if m.issues() != max(left, right) || !accepts(m, left) || !accepts(m, right) {
				t.Errorf("%s issues with %q; made: %q and %q", m.name, m.issues(), left, right)
			}
		}
		w.pass(DefaultLifetime)
		if !accepts(b, min(left, right)) {
			t.Error("a secret ends before the credentials that were issued until the halves met")
		}
	})
}

// TestAwayForLong wants a machine that was cut off while its secret was replaced and ended elsewhere to accept what it has issued.
func TestAwayForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c")
		first := w.machines[0].rotates(t)
		w.pass(10 * time.Second)
		away := w.machines[2]
		away.connected = false
		w.machines[0].rotates(t)
		w.pass(DefaultLifetime + 3*margin)
		if accepts(w.machines[0], first) || away.issues() != first {
			t.Fatal("the first secret has not ended, or it has where it is issued with")
		}
		away.connected = true
		w.pass(DefaultLifetime)
		if !accepts(away, first) {
			t.Error("credentials that were issued while the machine was away are refused")
		}
		if accepts(w.machines[0], first) || accepts(w.machines[1], first) || away.issues() == first {
			t.Error("a secret that has ended is accepted by machines that have not issued with it, or is issued with")
		}
		w.pass(3 * margin)
		for _, m := range w.machines {
			if accepts(m, first) {
				t.Errorf("%s still accepts the first secret", m.name)
			}
		}
	})
}

// TestCopyAfterEnd wants no machine to accept a secret that has ended because Redis has a copy of its entry, which a machine has not seen end.
func TestCopyAfterEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "b", "c")
		first := w.machines[0].rotates(t)
		w.pass(10 * time.Second)
		old := w.entries[prefix+first]
		w.machines[0].rotates(t)
		w.pass(DefaultLifetime + 3*margin)
		for _, name := range []string{"a", "d"} { // one whose relay is the first, and one whose is not
			added := w.add(name, "")
			slices.SortFunc(w.machines, func(a, b *machine) int { return strings.Compare(a.name, b.name) })
			w.entries[prefix+first] = old
			added.exchange() // as at the start
			added.tick(t.Context())
			w.pass(10 * time.Second)
			for _, m := range w.machines {
				if accepts(m, first) {
					t.Errorf("after the start of %s, %s accepts a secret that has ended", name, m.name)
				}
			}
			if e := w.entries[prefix+first]; e.Value != "" {
				t.Errorf("after the start of %s, Redis has the secret", name)
			}
		}
	})
}

// TestWrongClock wants a machine whose clock is wrong not to end a secret before its time.
func TestWrongClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		a := w.machines[0]
		first := a.rotates(t)
		w.pass(10 * time.Second)
		s := a.held[0]
		behind := s
		behind.replace(time.Now().Add(-30 * 24 * time.Hour))
		behind.stamp++
		e := behind.entry()
		e.Until = time.Now().Add(time.Hour)
		for name, e := range map[string]cluster.Entry{
			"behind": e, "ahead": withdrawn{first, s.stamp + 2, time.Now().Add(time.Hour + leaseTime)}.entry(),
		} {
			a.Merge([]cluster.Entry{e})
			if !accepts(a, first) || a.held[0].Ends.Before(time.Now().Add(DefaultLifetime)) {
				t.Errorf("%s: the secret ends at %v", name, a.held[0].Ends)
			}
		}
	})
}

// TestSchedule wants exactly one of all machines to replace the secret each time, also after Redis has lost everything and with a secret of
// a machine whose clock was ahead.
func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c")
		for _, m := range w.machines {
			m.Configure(Settings{Lifetime: DefaultLifetime, Every: 30 * 24 * time.Hour})
		}
		made := make(map[string]bool)
		count := func() int {
			for _, m := range w.machines {
				for _, s := range m.held {
					made[s.ID] = true
				}
			}
			return len(made)
		}
		w.pass(20 * time.Second)
		if count() != 1 {
			t.Fatalf("%d secrets at first", count())
		}
		for n := 2; n < 5; n++ {
			w.entries, w.claimed = make(map[string]cluster.Entry), make(map[string]bool)
			w.pass(29 * 24 * time.Hour)
			if got := count(); got != n-1 {
				t.Fatalf("%d secrets after 29 days, want %d", got, n-1)
			}
			w.pass(30 * time.Hour)
			if got := count(); got != n {
				t.Fatalf("%d secrets after 30 days and 6 hours, want %d", got, n)
			}
		}
		for _, m := range w.machines {
			m.held[len(m.held)-1].Made = time.Now().Add(365 * 24 * time.Hour)
		}
		w.pass(time.Minute)
		if got := count(); got != 5 {
			t.Errorf("%d secrets, want one more after a clock was ahead", got)
		}
	})
}

// TestTooOften wants the log to say that the secret is not replaced on schedule, because credentials are valid for too long.
func TestTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.machines[0]
		a.Configure(Settings{Lifetime: 30 * 24 * time.Hour, Every: 24 * time.Hour})
		for range 10 {
			w.pass(24 * time.Hour)
		}
		if n := strings.Count(a.log.String(), "the secret is not replaced as secret_rotation says"); len(a.held) != maxScheduled || n == 0 {
			t.Errorf("%d secrets, and %d warnings", len(a.held), n)
		}
		a.rotates(t) // which an operator still can
	})
}

// TestClaimedForever wants the log to say once that no machine replaces the secret, because Redis has a claim that does not end.
func TestClaimedForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.machines[0]
		a.Configure(Settings{Lifetime: DefaultLifetime, Every: 30 * 24 * time.Hour})
		w.pass(time.Minute)
		w.claimed["the secret after "+a.issues()] = true
		const message = "no machine replaces the secret"
		w.pass(30*24*time.Hour + stalledAfter - time.Hour)
		if strings.Contains(a.log.String(), message) {
			t.Error("it is logged too early")
		}
		w.pass(3 * stalledAfter)
		if n := strings.Count(a.log.String(), message); n != 1 {
			t.Errorf("it is logged %d times", n)
		}
	})
}

// TestNoRelayAccepts wants the log to say that no relay accepts a new secret, also if the machine that has made it has no relay.
func TestNoRelayAccepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "issuer", "old")
		issuer := w.machines[0]
		w.machines[1].old = true
		issuer.relayless = true
		issuer.rotates(t)
		w.pass(2 * overdueAfter)
		if n := strings.Count(issuer.log.String(), "relays=old"); n != 1 {
			t.Errorf("it is logged %d times", n)
		}
	})
}

// TestClockAhead wants a secret that a machine with a wrong clock takes for ended to end once there, and to be accepted elsewhere.
func TestClockAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, ends := range map[string]time.Duration{"told when it ends": 0, "told another time": 24 * time.Hour, "not told": -1} {
			w := newWorld(t, "a", "b")
			ahead, right := w.machines[0], w.machines[1]
			s := newSecret(make([]byte, size), 0, DefaultLifetime, time.Now())
			s.Issued = s.Made
			other := s
			s.replace(time.Now())
			if ends >= 0 {
				other.Ends = s.Ends.Add(ends)
			}
			ahead.held, right.held = []Secret{s}, []Secret{other}
			inRedis := make(map[string]cluster.Entry)
			exchange := func(m *machine, now time.Time) {
				publish := func(e cluster.Entry) {
					if e.Stamp > inRedis[e.Name].Stamp {
						inRedis[e.Name] = e
					}
				}
				m.expire(now)
				for _, e := range m.Held() {
					publish(e)
				}
				for _, e := range inRedis {
					if !now.Before(e.Until) {
						continue
					}
					if answer, _ := m.learn(e, now); answer != nil {
						publish(*answer)
					}
				}
			}
			for range 10 {
				exchange(ahead, time.Now().Add(DefaultLifetime+2*margin))
				exchange(right, time.Now())
			}
			stamp := inRedis[prefix+s.ID].Stamp
			exchange(ahead, time.Now().Add(DefaultLifetime+2*margin))
			exchange(right, time.Now())
			if inRedis[prefix+s.ID].Stamp != stamp {
				t.Errorf("%s: the machines never agree", name)
			}
			if n := strings.Count(ahead.log.String(), endMessage); n != 1 || len(ahead.held) != 0 || len(right.held) != 1 {
				t.Errorf("%s: %d messages, %d and %d held", name, n, len(ahead.held), len(right.held))
			}
		}
	})
}

// TestFile wants the file to give the secrets back, and nobody to read them without the key.
func TestFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		path := filepath.Join(t.TempDir(), "secrets")
		m := w.add("m", path)
		id := m.rotates(t)
		w.pass(10 * time.Second)
		again := w.add("m", path)
		if again.issues() != id || len(again.Held()) != 1 || again.Held()[0] != m.Held()[0] {
			t.Errorf("read again: %+v, want %+v", again.Held(), m.Held())
		}
		var log strings.Builder
		c := again.config
		c.Cluster, c.Logger = settings(t, "x"), slog.New(slog.NewTextHandler(&log, nil))
		if other := New(c); other.Ring().Accepted() != nil || !strings.Contains(log.String(), "was not made with the key") {
			t.Errorf("with another key: %s", &log)
		}
		c.Cluster = cluster.Settings{Enabled: true}
		if none := New(c); none != nil {
			t.Error("secrets without a key")
		}
		var none *Keeper
		none.Merge([]cluster.Entry{m.Held()[0]})
		if _, _, err := none.Rotate(t.Context()); !errors.Is(err, ErrNoKey) || none.Held() != nil || none.Ring().Accepted() != nil || len(none.Report()) != 0 {
			t.Errorf("without a key: %v", err)
		}
	})
}

// TestMergeBounds wants a machine to hold a limited number of secrets, and to ignore what is none.
func TestMergeBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		m := w.machines[0]
		var entries []cluster.Entry
		for i := range 100 {
			s := newSecret(fmt.Appendf(nil, "a secret that has 32 bytes: %04d", i), int64(i), time.Hour, time.Now())
			entries = append(entries, s.entry())
			entries = append(entries, withdrawn{fmt.Sprintf("%016x", i), 1, time.Now().Add(time.Hour)}.entry())
		}
		for range 5 {
			m.Merge(entries)
		}
		valid := entries[0]
		for name, change := range map[string]func(*cluster.Entry){
			"another name": func(e *cluster.Entry) { e.Name = prefix + "0123456789abcdef" },
			"no JSON":      func(e *cluster.Entry) { e.Value = "x" },
			"short":        func(e *cluster.Entry) { e.Value = `{"secret":"AAAA","number":1}` },
			"late": func(e *cluster.Entry) {
				e.Value = strings.Replace(e.Value, `"made":"2`, `"made":"9999-12-31T23:59:59Z","x":"2`, 1)
			},
			"number": func(e *cluster.Entry) { e.Value = strings.Replace(e.Value, `"number":1`, `"number":-1`, 1) },
			"lifetime": func(e *cluster.Entry) {
				e.Value = strings.Replace(e.Value, `"lifetime":3600`, `"lifetime":36000000000`, 1)
			},
		} {
			e := valid
			if change(&e); e == valid {
				t.Fatalf("%s changes nothing", name)
			}
			if _, err := parse(e); err == nil {
				t.Errorf("%s is no error", name)
			}
		}
		if len(m.held) != maxHeld || len(m.gone) > maxWithdrawn || strings.Count(m.log.String(), "level=ERROR") != 1 {
			t.Errorf("%d held, %d gone, log:\n%s", len(m.held), len(m.gone), &m.log)
		}
	})
}

// TestRedisLosesRelays wants a machine that sees its own relay alone, because Redis has just lost everything, to wait for the others.
func TestRedisLosesRelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		w.pass(10 * time.Second)
		a, b := w.machines[0], w.machines[1]
		b.old = true // it has not learned the secret yet
		id := a.rotates(t)
		b.connected = false
		w.pass(settleTime - 2*time.Second)
		if a.issues() != "" {
			t.Error("a machine issues with a secret that a relay did not accept seconds ago")
		}
		w.machines = w.machines[:1]
		a.connected = false
		w.pass(time.Second)
		a.connected = true
		w.pass(settleTime - 2*time.Second)
		if a.issues() != "" {
			t.Error("a machine issues with a secret right after Redis is back")
		}
		w.pass(3 * time.Second)
		if a.issues() != id {
			t.Error("a relay that is gone keeps the others waiting")
		}
	})
}
