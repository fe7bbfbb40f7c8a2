// Package ledger keeps what each account has relayed on each day, in files, for a time, if the operator asks for it.
package ledger

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/usage"
)

// writePeriod is how often the current day is written. What was relayed since is lost if the process is killed.
const writePeriod = time.Minute

// maxUnstored is how many days are kept in memory while their files cannot be written, so that a full disk does not fill the memory, too.
const maxUnstored = 7

// Book counts what users relay, for limits and for the files. It implements usage.Meter. Safe for concurrent use.
type Book struct {
	dir    string // empty if nothing can be stored
	masked func(day time.Time, account string) string
	logger *slog.Logger
	now    func() time.Time

	day      usage.Day
	counting atomic.Bool          // somebody wants to know
	earlier  atomic.Pointer[page] // of the current day, what earlier processes have stored

	wake    chan struct{}
	closing chan struct{}
	writing sync.WaitGroup

	changed atomic.Bool // since the current day was written

	ended struct {
		sync.Mutex
		days []endedDay // to be written
	}

	mu   sync.Mutex // guards what follows, and the files
	keep time.Duration
	gone bool // another process writes
	// unstored are days that have ended, and whose files could not be written yet, the earliest first.
	unstored []page
}

// endedDay is what was counted of a day that has ended.
type endedDay struct {
	day    time.Time
	totals map[usage.User]usage.Total
}

// page is what was relayed on a day.
type page struct {
	day  time.Time
	rows rows
}

// New returns a book with files in a directory, which is created when the first one is written. What an account has relayed on a day is
// stored under the name that masked returns. An empty dir stands for none.
func New(dir string, masked func(day time.Time, account string) string, logger *slog.Logger) *Book {
	b := &Book{dir: dir, masked: masked, logger: logger, now: time.Now, wake: make(chan struct{}, 1), closing: make(chan struct{})}
	b.day.Ended = b.dayEnded
	b.earlier.Store(&page{})
	return b
}

// Start begins to write the files. Close must be called.
func (b *Book) Start() { b.writing.Go(b.run) }

// Configure sets for how many days after its end a day is kept. With zero, nothing is stored, and what is stored is removed. limited
// says that the book is wanted for limits in any case.
func (b *Book) Configure(keep time.Duration, limited bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if keep > 0 && b.keep == 0 {
		today := usage.StartOf(b.now())
		stored, err := read(b.dir, today)
		if err != nil {
			b.logger.Error("usage: cannot read today's file", "err", err)
		}
		b.earlier.Store(&page{today, stored})
	}
	if keep == 0 {
		b.earlier.Store(&page{})
		b.unstored = nil
	}
	if b.keep = keep; !limited && keep == 0 {
		b.day.Clear()
	}
	b.counting.Store(keep > 0 || limited)
	b.clean()
}

// Add implements usage.Meter.
func (b *Book) Add(user usage.User, relayed usage.Total, now time.Time) (today uint64) {
	if !b.counting.Load() {
		return 0
	}
	today = b.day.Add(user, relayed, now) + b.before(user, now)
	b.changed.Store(true)
	return today
}

// Today implements usage.Meter.
func (b *Book) Today(user usage.User, now time.Time) uint64 {
	return b.day.Today(user, now) + b.before(user, now)
}

// before returns what a user has relayed today according to the file. It is 0 for a user who is masked there, and for an anonymous
// subject, because the file does not tell the people who share it apart.
func (b *Book) before(user usage.User, now time.Time) uint64 {
	if user.Subject.Anonymous {
		return 0
	}
	if earlier := b.earlier.Load(); earlier.day.Equal(usage.StartOf(now)) {
		return earlier.rows[keyOf(user)].Bytes()
	}
	return 0
}

// dayEnded has the day written that has ended. It does not block.
func (b *Book) dayEnded(day time.Time, totals map[usage.User]usage.Total) {
	b.ended.Lock()
	b.ended.days = append(b.ended.days, endedDay{day, totals})
	b.ended.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// pageOf adds up what is stored of a day and what was counted since.
func (b *Book) pageOf(day time.Time, totals map[usage.User]usage.Total) page {
	sum := make(rows)
	if earlier := b.earlier.Load(); earlier.day.Equal(day) {
		maps.Copy(sum, earlier.rows)
	}
	for user, total := range totals {
		key := keyOf(user)
		key.Account = b.masked(day, key.Account)
		sum[key] = sum[key].Plus(total)
	}
	return page{day, sum}
}

// current returns what was relayed today.
func (b *Book) current() page {
	today := usage.StartOf(b.now())
	day, totals := b.day.Totals()
	if !day.Equal(today) {
		totals = nil
	}
	return b.pageOf(today, totals)
}

func (b *Book) run() {
	ticker := time.NewTicker(writePeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-b.wake:
		case <-b.closing:
			b.write()
			return
		}
		b.write()
	}
}

// write writes the days that have ended and the current one, and removes those that are too old.
func (b *Book) write() {
	b.ended.Lock()
	ended := b.ended.days
	b.ended.days = nil
	b.ended.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keep == 0 || b.gone || b.dir == "" {
		return
	}
	pages := b.unstored
	for _, e := range ended {
		pages = append(pages, b.pageOf(e.day, e.totals))
	}
	b.unstored = nil
	for _, p := range pages {
		if !b.stored(p) {
			b.unstored = append(b.unstored, p)
		}
	}
	b.unstored = b.unstored[max(len(b.unstored)-maxUnstored, 0):]
	if b.changed.Swap(false) && !b.stored(b.pageOf(b.day.Totals())) { // after midnight, that is yesterday until the first traffic
		b.changed.Store(true)
	}
	b.clean()
}

// stored writes the file of a day unless nothing was relayed then, and reports whether that has succeeded.
func (b *Book) stored(p page) bool {
	if len(p.rows) == 0 {
		return true
	}
	err := store(b.dir, p)
	if err != nil {
		b.logger.Error("usage was not stored", "day", p.day.Format(time.DateOnly), "err", err)
	}
	return err == nil
}

// HandOver leaves the files to another process.
func (b *Book) HandOver() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = true
}

// Close writes what was counted, unless HandOver was called, and ends the book.
func (b *Book) Close() {
	close(b.closing)
	b.writing.Wait()
}

// Find returns what was relayed on the last days, today included.
func (b *Book) Find(days int) (found []Entry, on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keep == 0 {
		return nil, false
	}
	p := b.current()
	found = p.entries()
	for i := 1; i < days; i++ {
		day := p.day.AddDate(0, 0, -i)
		if at := slices.IndexFunc(b.unstored, func(p page) bool { return p.day.Equal(day) }); at >= 0 {
			found = append(found, b.unstored[at].entries()...)
			continue
		}
		stored, err := read(b.dir, day)
		if err != nil {
			b.logger.Error("usage cannot be read", "day", day.Format(time.DateOnly), "err", err)
		}
		found = append(found, page{day, stored}.entries()...)
	}
	return found, true
}
