package holders

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
)

var (
	relayed = netip.MustParseAddrPort("192.0.2.1:50000")
	client  = netip.MustParseAddrPort("198.51.100.7:12345")
)

// ends returns the event of a relayed address that was held for a minute until now.
func ends(account string, at netip.AddrPort) event.Event {
	now := time.Now()
	return event.Event{
		Kind: event.AllocationEnded, Time: now, Made: now.Add(-time.Minute), Tuple: event.FiveTuple{Client: client, Transport: event.TLS},
		Username: "1796031863", Subject: credential.Subject{Name: account}, Relayed: at, ToPeer: event.Traffic{Packets: 3, Bytes: 300},
	}
}

func asIs(h Holding) Holding { return h }

func open(t *testing.T, dir string, keep time.Duration) *Record {
	t.Helper()
	r := Open(dir, asIs, slog.New(slog.DiscardHandler))
	r.SetKeep(keep)
	return r
}

// accounts returns those that held the port of relayed, as found.
func accounts(a Answer) (names []string) {
	for _, h := range a.Holdings {
		names = append(names, h.Account)
	}
	return names
}

// TestFind checks who is found: by port, address and time, in another process, and not after the record was switched off.
func TestFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "holders")
		r := open(t, dir, time.Hour)
		began := time.Now()
		const evil = "ev il\x1b[2J\n\",\"omitted\":true,\"@example.org"
		r.Add("turn", ends("alice@example.org", relayed))
		r.Add("turn", ends("bob@example.org", netip.AddrPortFrom(relayed.Addr(), 50001)))
		silent := ends("carol@example.org", relayed)
		silent.ToPeer = event.Traffic{}
		r.Add("turn", silent)
		refreshed := ends("carol@example.org", relayed)
		refreshed.Kind = event.AllocationRefreshed
		r.Add("turn", refreshed)
		time.Sleep(10 * time.Minute)
		r.Add("turn", ends(evil, relayed))

		query := Query{Port: 50000, At: began.Add(-time.Second), Within: time.Second}
		check := func(r *Record, query Query, want ...string) {
			t.Helper()
			if got := accounts(r.Find(query)); !slices.Equal(got, want) {
				t.Errorf("%+v: got %q, want %q", query, got, want)
			}
		}
		check(r, query, "alice@example.org")
		check(r, Query{Port: 50001, At: began}, "bob@example.org")
		check(r, Query{Port: 5000, At: began})
		check(r, Query{Port: 50000, At: began.Add(time.Minute), Within: 30 * time.Second})
		check(r, Query{Port: 50000, At: began.Add(9*time.Minute + 30*time.Second)}, evil)
		check(r, Query{Port: 50000, At: began, Within: time.Hour}, "alice@example.org", evil)
		check(r, Query{Addr: relayed.Addr(), Port: 50000, At: began}, "alice@example.org")
		check(r, Query{Addr: client.Addr(), Port: 50000, At: began})
		got := r.Find(query).Holdings[0]
		want := Holding{
			Endpoint: "turn", Relayed: relayed, Account: "alice@example.org", Username: "1796031863", Client: client.String(), Transport: "tls",
			From: began.Add(-time.Minute), Until: began, ToPeerBytes: 300, ToPeerPackets: 3,
		}
		if !got.From.Equal(want.From) || !got.Until.Equal(want.Until) {
			t.Errorf("held from %v until %v", got.From, got.Until)
		}
		got.From, got.Until = want.From, want.Until
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		r.Close()

		again := open(t, dir, time.Hour)
		check(again, query, "alice@example.org")
		if since := again.Find(query).Since; !since.Equal(began) {
			t.Errorf("complete since %v, want %v", since, began)
		}
		time.Sleep(55 * time.Minute) // 65 after alice's call
		check(again, query)
		check(again, Query{Port: 50000, At: began, Within: 11 * time.Minute}, evil)
		if since := again.Find(query).Since; since.Before(time.Now().Add(-time.Hour)) {
			t.Errorf("complete since %v, which is more than an hour ago", since)
		}
		again.SetKeep(0)
		if a := again.Find(query); a.On {
			t.Errorf("switched off: got %+v", a)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("switched off: the directory: %v", err)
		}
		again.Add("turn", ends("alice@example.org", relayed))
		again.SetKeep(time.Hour)
		check(again, Query{Port: 50000, At: time.Now(), Within: time.Hour})
		again.Close()
		again.SetKeep(time.Hour) // does not hang
	})
}

// TestBounds checks that one account cannot fill the record, that its flood is told, and that old files are removed, by age and by
// size.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "holders")
		r := open(t, dir, 32*time.Hour)
		begin := time.Now()
		stored := func() (n int, bytes int64) {
			t.Helper()
			r.do(func() {})
			all := segments(dir)
			for _, s := range all {
				bytes += s.size
			}
			return len(all), bytes
		}
		add := func(account string) {
			r.Add("turn", ends(account, relayed))
			synctest.Wait()
		}
		add("victim@example.org")
		for range 3 * maxShare / 200 {
			add("flood@example.org")
		}
		if n, bytes := stored(); n != 1 || bytes > maxShare+2000 {
			t.Errorf("one account has filled %d files with %d bytes, want no more than %d", n, bytes, maxShare)
		}
		a := r.Find(Query{Port: 50000, At: begin, Within: time.Minute})
		if names := accounts(a); names[0] != "victim@example.org" || !slices.Equal(a.Omitted, []string{"flood@example.org"}) {
			t.Errorf("got %q, %q", names[:1], a.Omitted)
		}

		time.Sleep(3 * time.Hour) // longer than a file lasts
		add("flood@example.org")
		time.Sleep(time.Hour)
		add("flood@example.org")
		if got := accounts(r.Find(Query{Port: 50000, At: time.Now()})); !slices.Equal(got, []string{"flood@example.org"}) {
			t.Errorf("in the next file: got %q", got)
		}
		if a := r.Find(Query{Port: 50000, At: time.Now()}); len(a.Omitted) > 0 {
			t.Errorf("in the next file: %q are omitted", a.Omitted)
		}
		time.Sleep(30*time.Hour + 2*cleanPeriod) // the first file ended 32 hours ago
		if n, _ := stored(); n != 1 {
			t.Errorf("%d files, want the first to be removed", n)
		}
		time.Sleep(3 * time.Hour)
		if n, _ := stored(); n != 0 {
			t.Errorf("%d files, want none", n)
		}

		// A file of before is removed when there are too many bytes.
		if err := os.Truncate(filepath.Join(dir, create(t, dir, time.Now())), maxRecord); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		add("alice@example.org")
		time.Sleep(2 * cleanPeriod)
		if n, bytes := stored(); n != 1 || bytes > 1000 {
			t.Errorf("%d files with %d bytes", n, bytes)
		}
		r.Close()
	})
}

// create makes an empty file of the record.
func create(t *testing.T, dir string, began time.Time) (name string) {
	t.Helper()
	name = segmentName(began)
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestDamage checks that lines that are cut, and files that are not of the record, cost nothing else, and that a directory that cannot
// be used costs the record alone.
func TestDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "holders")
	r := open(t, dir, time.Hour)
	r.Add("turn", ends("alice@example.org", relayed))
	r.do(func() {})
	file, err := os.OpenFile(filepath.Join(dir, segments(dir)[0].name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(file, `{"relayed":"192.0.2.1:50000","account":"b`)
	file.Close()
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte("192.0.2.1:50000"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := accounts(r.Find(Query{Port: 50000, At: time.Now(), Within: time.Minute})); !slices.Equal(got, []string{"alice@example.org"}) {
		t.Errorf("got %q", got)
	}
	r.Close()

	place := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(place, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	r = Open(filepath.Join(place, "holders"), asIs, slog.New(slog.NewTextHandler(&logged, nil)))
	r.SetKeep(time.Hour)
	for range 3 {
		r.Add("turn", ends("alice@example.org", relayed))
	}
	r.Close()
	if n := strings.Count(logged.String(), "the record of calls is incomplete"); n != 1 {
		t.Errorf("%d lines in the log, want one:\n%s", n, &logged)
	}

	var none *Record
	none.SetKeep(time.Hour)
	none.Add("turn", ends("alice@example.org", relayed))
	if none.Find(Query{}).On {
		t.Error("no record is on")
	}
	none.Close()
}
