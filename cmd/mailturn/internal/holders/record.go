// Package holders keeps a record of who held which relayed address, in files, for a time, so that an operator can answer a complaint.
package holders

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

const (
	// maxQueue is how many holdings may wait to be written. Further ones are lost: the relay waits for no disk.
	maxQueue = 4096
	// maxSegment and maxRecord are the size limits of a file and of all files together, in bytes. A holding takes about 300.
	maxSegment = 4 << 20
	maxRecord  = 64 << 20
	// maxShare is the number of bytes that one account may take of a file, so that nobody can displace the record of a call by
	// making many others.
	maxShare = maxSegment / 16
	// segmentsPerKeep is how many files the record has at least while calls come, so that what is too old can be removed.
	segmentsPerKeep = 16
	cleanPeriod     = time.Minute
)

// Record is the record. Open returns one; a nil Record records nothing. It is safe for concurrent use.
type Record struct {
	dir    string
	masked func(Holding) Holding
	logger *slog.Logger
	queue  chan Holding
	ask    chan func()
	lost   atomic.Int64
	quiet  limit.Sampler

	closing chan struct{}
	writing sync.WaitGroup

	// What follows is owned by the goroutine of run.
	keep   time.Duration // zero while nothing is recorded
	opened time.Time     // when the record was switched on
	on     atomic.Bool   // keep is not zero
	file   *os.File      // the current segment, nil if there is none
	size   int64         // of it
	began  time.Time
	shares map[string]int // bytes by account, in the current segment; negative if its holdings are omitted
}

// Open returns the record in a directory, which is created when the first holding is written. Holdings are recorded as masked returns
// them. Close must be called.
func Open(dir string, masked func(Holding) Holding, logger *slog.Logger) *Record {
	r := &Record{dir: dir, masked: masked, logger: logger, queue: make(chan Holding, maxQueue), ask: make(chan func()), closing: make(chan struct{})}
	r.writing.Go(r.run)
	return r
}

// Close writes the holdings that wait, and ends the record. Nothing may be added after that.
func (r *Record) Close() {
	if r == nil {
		return
	}
	close(r.closing)
	r.writing.Wait()
}

// SetKeep sets how long holdings are kept after they have ended. With zero, nothing is recorded, and what is stored is removed.
func (r *Record) SetKeep(keep time.Duration) {
	if r == nil {
		return
	}
	r.do(func() {
		if (keep == 0) != (r.keep == 0) {
			r.opened = time.Now().Round(0)
		}
		r.keep = keep
		r.on.Store(keep > 0)
		r.clean(time.Now())
	})
}

// Add records a relayed address that has ended, if it has sent something. It does not block. Events of other kinds are ignored.
func (r *Record) Add(endpoint string, e event.Event) {
	if r == nil || e.Kind != event.AllocationEnded || e.ToPeer.Packets == 0 || !r.on.Load() {
		return
	}
	select {
	case r.queue <- r.masked(ended(endpoint, e)):
	default:
		r.lost.Add(1)
	}
}

// do calls f on the goroutine of run, after the waiting holdings have been written. After Close, it does nothing.
func (r *Record) do(f func()) {
	done := make(chan struct{})
	select {
	case r.ask <- func() { defer close(done); f() }:
		<-done
	case <-r.closing:
	}
}

// run writes the holdings.
func (r *Record) run() {
	cleaning := time.NewTicker(cleanPeriod)
	defer cleaning.Stop()
	for {
		select {
		case h := <-r.queue:
			r.write(h)
		case f := <-r.ask:
			r.drain()
			f()
		case now := <-cleaning.C:
			r.clean(now)
		case <-r.closing:
			r.drain()
			r.finish()
			return
		}
		if n := r.lost.Swap(0); n > 0 {
			r.logger.Warn("the record of calls is incomplete: the disk is too slow", "lost", n)
		}
	}
}

// drain writes the waiting holdings.
func (r *Record) drain() {
	for {
		select {
		case h := <-r.queue:
			r.write(h)
		default:
			return
		}
	}
}

// line is a line of a segment: a holding, or a note that further holdings of an account are omitted from then on.
type line struct {
	Holding
	Omitted bool `json:"omitted,omitempty"`
}

// write appends a holding to the current segment. If that fails, the holding is lost, and write logs the error.
func (r *Record) write(h Holding) {
	if r.keep == 0 {
		return // switched off in the meantime
	}
	now := time.Now()
	if r.file != nil && (r.size >= maxSegment || now.Sub(r.began) >= r.keep/segmentsPerKeep) {
		r.finish()
		r.clean(now)
	}
	who := h.Realm + "\x00" + h.Account
	l := line{Holding: h}
	if r.file != nil {
		switch used := r.shares[who]; {
		case used < 0:
			return
		case used > maxShare:
			l = line{Holding{Account: h.Account, Realm: h.Realm, From: now.Round(0)}, true}
		}
	}
	text, err := json.Marshal(l)
	if err == nil {
		err = r.append(append(text, '\n'), now)
	}
	if err != nil {
		r.finish()
		if lost, due := r.quiet.Next("write", now); due {
			r.logger.Error("the record of calls is incomplete", "err", err, "suppressed", lost)
		}
		return
	}
	if r.shares[who] += len(text); l.Omitted {
		r.shares[who] = -1
	}
}

// append appends to the current segment, or starts one.
func (r *Record) append(text []byte, now time.Time) error {
	if r.file == nil {
		if err := os.MkdirAll(r.dir, 0o700); err != nil {
			return err
		}
		file, err := os.OpenFile(filepath.Join(r.dir, segmentName(now)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		r.file, r.size, r.began, r.shares = file, 0, now, make(map[string]int)
	}
	n, err := r.file.Write(text)
	r.size += int64(n)
	return err
}

// finish ends the current segment.
func (r *Record) finish() {
	if r.file == nil {
		return
	}
	if err := r.file.Close(); err != nil {
		r.logger.Error("the record of calls is incomplete", "err", err)
	}
	r.file = nil
}

// clean removes segments that are too old, and the oldest ones if there are too many.
func (r *Record) clean(now time.Time) {
	if r.keep == 0 {
		r.finish()
		if err := os.RemoveAll(r.dir); err != nil {
			r.logger.Error("the record of calls cannot be removed", "err", err)
		}
		return
	}
	if r.file != nil && now.Sub(r.began) >= r.keep/segmentsPerKeep {
		r.finish()
	}
	all := segments(r.dir)
	var total int64
	for i := len(all) - 1; i >= 0; i-- {
		total += all[i].size
		end := all[i].began.Add(r.keep / segmentsPerKeep)
		if i+1 < len(all) && all[i+1].began.Before(end) {
			end = all[i+1].began
		}
		if total <= maxRecord && now.Sub(end) < r.keep {
			continue
		}
		if err := os.Remove(filepath.Join(r.dir, all[i].name)); err != nil {
			r.logger.Error("an old record of calls cannot be removed", "err", err)
		}
	}
}

// Answer is the result of a query.
type Answer struct {
	Holdings []Holding
	// Omitted are the accounts of which the record omits holdings that may answer the query, because there were too many.
	Omitted []string
	// Since is the time from which on the record is complete, but for Omitted.
	Since time.Time
	// On is false if nothing is recorded.
	On bool
}

// Find returns the holdings that have ended and match a query. It does not block Add.
func (r *Record) Find(q Query) (a Answer) {
	if r == nil {
		return a
	}
	var keep time.Duration
	r.do(func() { keep, a.Since = r.keep, r.opened })
	if a.On = keep > 0; !a.On {
		return a
	}
	now := time.Now()
	port := []byte(`:` + itoa(q.Port) + `"`)
	all := segments(r.dir)
	for i, s := range all {
		if i == 0 && s.began.Before(a.Since) {
			a.Since = s.began
		}
		text, err := os.ReadFile(filepath.Join(r.dir, s.name))
		if err != nil {
			r.logger.Warn("reading the record of calls", "err", err)
			continue
		}
		for text := range bytes.Lines(text) {
			omits := bytes.Contains(text, []byte(`"omitted":true`))
			if !omits && !bytes.Contains(text, port) {
				continue
			}
			var l line
			switch err := json.Unmarshal(text, &l); {
			case err != nil: // cut when the disk was full, or the machine lost power
			case l.Omitted:
				if i+1 == len(all) || !all[i+1].began.Before(q.At.Add(-q.Within)) {
					a.Omitted = append(a.Omitted, l.Account)
				}
			case q.Matches(l.Holding) && now.Sub(l.Until) < keep:
				a.Holdings = append(a.Holdings, l.Holding)
			}
		}
	}
	if oldest := now.Add(-keep); a.Since.Before(oldest) {
		a.Since = oldest
	}
	return a
}
