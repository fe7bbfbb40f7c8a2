package ledger

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/atomicfile"
	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

const (
	suffix = ".json"
	// maxFile bounds the size of a file in bytes. A user of usage.MaxUsers takes about 200, and has a name of at most 508.
	maxFile = 64 << 20
)

// key is whose traffic a row is about.
type key struct{ Account, Realm string }

func keyOf(user usage.User) key { return key{user.Subject.Name, user.Subject.Realm} }

// rows are the accounts of a page.
type rows map[key]usage.Total

// Entry is what an account has relayed on a day: payload in bytes, and packets.
type Entry struct {
	Day             string `json:"day"` // of UTC, such as 2026-11-30
	Account         string `json:"account"`
	Realm           string `json:"realm,omitempty"`
	ToPeerBytes     uint64 `json:"to_peer_bytes"`
	ToPeerPackets   uint64 `json:"to_peer_packets"`
	ToClientBytes   uint64 `json:"to_client_bytes"`
	ToClientPackets uint64 `json:"to_client_packets"`
}

// Bytes returns the bytes in both directions.
func (e Entry) Bytes() uint64 { return e.ToPeerBytes + e.ToClientBytes }

// entries returns the rows, those that have relayed most first.
func (p page) entries() []Entry {
	entries := make([]Entry, 0, len(p.rows))
	for key, total := range p.rows {
		entries = append(entries, Entry{
			Day: p.day.Format(time.DateOnly), Account: key.Account, Realm: key.Realm,
			ToPeerBytes: total.ToPeer.Bytes, ToPeerPackets: total.ToPeer.Packets,
			ToClientBytes: total.ToClient.Bytes, ToClientPackets: total.ToClient.Packets,
		})
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Bytes(), a.Bytes()), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Realm, b.Realm))
	})
	return entries
}

func path(dir string, day time.Time) string {
	return filepath.Join(dir, day.Format(time.DateOnly)+suffix)
}

// store writes the file of a day, which only this user can read.
func store(dir string, p page) error {
	text, err := json.Marshal(p.entries())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return atomicfile.Replace(path(dir, p.day), append(text, '\n'), atomicfile.Private)
}

// read reads the file of a day. Without one, there are no rows.
func read(dir string, day time.Time) (rows, error) {
	stored := make(rows)
	if dir == "" {
		return stored, nil
	}
	text, _, err := bounded.ReadFile(path(dir, day), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return stored, nil
	}
	var entries []Entry
	if err == nil {
		err = json.Unmarshal(text, &entries)
	}
	if err != nil {
		return stored, fmt.Errorf("%s: %w", path(dir, day), err)
	}
	return rowsOf(entries), nil
}

// rowsOf is the inverse of entries.
func rowsOf(entries []Entry) rows {
	stored := make(rows, len(entries))
	for _, e := range entries {
		k := key{e.Account, e.Realm}
		stored[k] = stored[k].Plus(usage.Total{
			ToPeer:   event.Traffic{Packets: e.ToPeerPackets, Bytes: e.ToPeerBytes},
			ToClient: event.Traffic{Packets: e.ToClientPackets, Bytes: e.ToClientBytes},
		})
	}
	return stored
}

// clean removes the files of days that ended too long ago, and all of them if nothing is kept. The caller holds the lock.
func (b *Book) clean() {
	if b.dir == "" || b.gone {
		return
	}
	if b.keep == 0 {
		if err := os.RemoveAll(b.dir); err != nil {
			b.logger.Error("cannot remove usage files", "err", err)
		}
		return
	}
	entries, _ := os.ReadDir(b.dir) // it does not exist before the first file
	for _, entry := range entries {
		date, ok := strings.CutSuffix(entry.Name(), suffix)
		day, err := time.Parse(time.DateOnly, date)
		if !ok || err != nil || b.now().Sub(day.AddDate(0, 0, 1)) < b.keep {
			continue
		}
		if err := os.Remove(filepath.Join(b.dir, entry.Name())); err != nil {
			b.logger.Error("cannot remove old usage files", "err", err)
		}
	}
}
