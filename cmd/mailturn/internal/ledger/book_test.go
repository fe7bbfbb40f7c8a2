package ledger

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

var _ usage.Meter = (*Book)(nil)

var (
	alice = usage.User{Subject: credential.Subject{Name: "alice@example.org"}}
	kilo  = usage.Total{ToPeer: event.Traffic{Packets: 1, Bytes: 1000}}
)

func open(dir string) *Book {
	b := New(dir, func(_ time.Time, account string) string { return account }, slog.New(slog.DiscardHandler))
	b.Start()
	return b
}

func total(stored rows) uint64 {
	sum := stored[keyOf(alice)]
	return sum.Bytes()
}

func find(t *testing.T, b *Book, days int) (bytes []uint64) {
	t.Helper()
	entries, on := b.Find(days)
	if !on {
		t.Fatal("nothing is kept")
	}
	for _, e := range entries {
		bytes = append(bytes, e.Bytes())
	}
	return bytes
}

// TestBook checks that usage survives a restart, that days end, and that files are removed when they are too old.
func TestBook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "usage")
		b := open(dir)
		b.Configure(48*time.Hour, false)
		b.Add(alice, kilo, time.Now()) // at midnight, as always in a bubble
		time.Sleep(2 * writePeriod)
		info, err := os.Stat(path(dir, time.Now()))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("after a minute: %v, %v", info, err)
		}
		b.Add(alice, kilo, time.Now())
		b.Close()

		b = open(dir)
		b.Configure(48*time.Hour, true)
		if today := b.Today(alice, time.Now()); today != 2000 {
			t.Errorf("after a restart, alice has relayed %d bytes today, want 2000", today)
		}
		if today := b.Add(alice, kilo, time.Now()); today != 3000 {
			t.Errorf("alice has relayed %d bytes today, want 3000", today)
		}
		if got := find(t, b, 1); len(got) != 1 || got[0] != 3000 {
			t.Errorf("found %v, want 3000", got)
		}
		time.Sleep(24 * time.Hour)
		if today := b.Today(alice, time.Now()); today != 0 {
			t.Errorf("the next day, alice has relayed %d bytes, want 0", today)
		}
		b.Add(alice, kilo, time.Now())
		synctest.Wait()
		if got := find(t, b, 3); len(got) != 2 || got[0] != 1000 || got[1] != 3000 {
			t.Errorf("found %v, want 1000 and 3000", got)
		}
		time.Sleep(48 * time.Hour) // the first day has ended two days ago
		b.Add(alice, kilo, time.Now())
		time.Sleep(2 * writePeriod)
		if got := find(t, b, 9); len(got) != 2 {
			t.Errorf("found %v, want what was relayed on two days", got)
		}
		b.Configure(0, true)
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("switched off: the directory: %v", err)
		}
		if _, on := b.Find(1); on {
			t.Error("switched off: something is found")
		}
		b.Close()
	})
}

// TestLastMinute checks that what was relayed in the last minute of a day is stored when nothing is relayed on the next one.
func TestLastMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "usage")
		b := open(dir)
		b.Configure(48*time.Hour, false)
		time.Sleep(24*time.Hour - writePeriod/2)
		day := time.Now()
		b.Add(alice, kilo, day)
		time.Sleep(writePeriod)
		b.Close()
		if stored, err := read(dir, day); err != nil || total(stored) != 1000 {
			t.Errorf("stored: %v, %v; want 1000 bytes", stored, err)
		}
	})
}

// TestNotStored checks that days whose files cannot be written are found in the meantime, and are stored as soon as they can.
func TestNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "usage")
		b := open(dir)
		b.Configure(72*time.Hour, false)
		first := time.Now()
		b.Add(alice, kilo, first)
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // where the directory would be
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		second := time.Now()
		b.Add(alice, kilo, second)
		time.Sleep(2 * writePeriod)
		if got := find(t, b, 2); len(got) != 2 || got[0] != 1000 || got[1] != 1000 {
			t.Errorf("found %v, want 1000 twice", got)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		b.Close()
		for _, day := range []time.Time{first, second} {
			if stored, err := read(dir, day); err != nil || total(stored) != 1000 {
				t.Errorf("%s: stored %v, %v; want 1000 bytes", day.Format(time.DateOnly), stored, err)
			}
		}
	})
}

// TestManyNotStored checks that only the latest days stay in memory if no file can be written.
func TestManyNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "usage")
		b := open(dir)
		b.Configure(24*365*time.Hour, false)
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for range maxUnstored + 3 {
			b.Add(alice, kilo, time.Now())
			time.Sleep(24 * time.Hour)
		}
		if got := find(t, b, maxUnstored+3); len(got) != maxUnstored {
			t.Errorf("found %d days, want %d", len(got), maxUnstored)
		}
		b.Close()
	})
}

// TestNotAsked checks that nothing is counted or stored if nobody asks for it, and that a limit alone stores nothing.
func TestNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "usage")
		b := open(dir)
		b.Configure(0, false)
		b.Add(alice, kilo, time.Now())
		b.Configure(0, true)
		if today := b.Add(alice, kilo, time.Now()); today != 1000 {
			t.Errorf("%d bytes today, want 1000", today)
		}
		time.Sleep(2 * writePeriod)
		b.Close()
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the directory: %v", err)
		}
	})
}

// TestMasked checks that masked accounts are stored as such, once, and that those of two processes add up.
func TestMasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "usage")
		for range 2 {
			b := New(dir, func(time.Time, string) string { return "a…@example.org" }, slog.New(slog.DiscardHandler))
			b.Start()
			b.Configure(time.Hour, false)
			b.Add(alice, kilo, time.Now())
			b.Close()
		}
		stored, err := read(dir, time.Now())
		if total := stored[key{Account: "a…@example.org"}]; err != nil || len(stored) != 1 || total.Bytes() != 2000 {
			t.Errorf("stored: %v, %v", stored, err)
		}
	})
}

// TestAnonymousAfterRestart checks that what one person has relayed with a credential that has no name is stored, but is not held
// against another person with the same credential, since the file does not say who it was.
func TestAnonymousAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		subject := credential.Subject{Name: "1800000000", Anonymous: true}
		one := usage.User{Subject: subject, Source: netip.MustParsePrefix("192.0.2.1/32")}
		other := usage.User{Subject: subject, Source: netip.MustParsePrefix("198.51.100.7/32")}
		b := open(dir)
		b.Configure(time.Hour, true)
		b.Add(one, kilo, time.Now())
		b.Close()
		b = open(dir)
		b.Configure(time.Hour, true)
		if today := b.Today(other, time.Now()); today != 0 {
			t.Errorf("after a restart, somebody else has relayed %d bytes today, want 0", today)
		}
		if today := b.Add(other, kilo, time.Now()); today != 1000 {
			t.Errorf("after a restart, somebody else has relayed %d bytes today, want 1000", today)
		}
		if got := find(t, b, 1); len(got) != 1 || got[0] != 2000 {
			t.Errorf("found %v, want 2000", got)
		}
		b.Close()
	})
}

// TestMaskedByDay checks that a day is masked with its own key also when it is written after its end.
func TestMaskedByDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "usage")
		b := New(dir, func(day time.Time, account string) string { return account + " on " + day.Format(time.DateOnly) }, slog.New(slog.DiscardHandler))
		b.Start()
		b.Configure(72*time.Hour, false)
		yesterday := time.Now()
		b.Add(alice, kilo, yesterday)
		time.Sleep(2 * writePeriod)
		b.Add(alice, kilo, time.Now())
		time.Sleep(24*time.Hour - 2*writePeriod)
		b.Add(alice, kilo, time.Now())
		b.Close()
		for day, want := range map[time.Time]uint64{yesterday: 2000, time.Now(): 1000} {
			stored, err := read(dir, day)
			total := stored[key{Account: alice.Subject.Name + " on " + day.Format(time.DateOnly)}]
			if err != nil || len(stored) != 1 || total.Bytes() != want {
				t.Errorf("%s: stored %v, %v; want one account with %d bytes", day.Format(time.DateOnly), stored, err, want)
			}
		}
	})
}

// TestDamaged checks that a damaged file costs only what is in it.
func TestDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(path(dir, time.Now()), []byte(`[{"account":"al`), 0o600); err != nil {
			t.Fatal(err)
		}
		b := open(dir)
		b.Configure(time.Hour, false)
		b.Add(alice, kilo, time.Now())
		b.Close()
		if stored, err := read(dir, time.Now()); err != nil || len(stored) != 1 {
			t.Errorf("stored: %v, %v", stored, err)
		}
	})
}

// TestHandOver checks that a process that takes over goes on with the count, and that the one before leaves the files to it.
func TestHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "usage")
		first := open(dir)
		first.Configure(time.Hour, true)
		first.Add(alice, kilo, time.Now())
		first.Close()

		second := open(dir)
		second.Configure(time.Hour, true)
		second.Add(alice, kilo, time.Now())
		time.Sleep(2 * writePeriod)
		third := open(dir)
		third.Configure(time.Hour, true) // it reads the file
		before := second.State()
		second.Add(alice, kilo, time.Now())
		for _, step := range []struct{ from, to any }{{before, new(State)}, {second.Since(before), new(Delta)}} { // as between processes
			text, err := json.Marshal(step.from)
			if err == nil {
				err = json.Unmarshal(text, step.to)
			}
			if err != nil {
				t.Fatal(err)
			}
			switch got := step.to.(type) {
			case *State:
				third.Restore(*got)
			case *Delta:
				third.Continue(*got)
			}
		}
		second.HandOver()
		if today := third.Add(alice, kilo, time.Now()); today != 4000 {
			t.Errorf("alice has relayed %d bytes today, want 4000", today)
		}
		third.Close()
		second.Add(alice, kilo, time.Now())
		second.Close()
		if stored, err := read(dir, time.Now()); err != nil || total(stored) != 4000 {
			t.Errorf("stored: %v, %v", stored, err)
		}
	})
}
