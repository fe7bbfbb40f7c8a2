package imap

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/imapext/discovery"
	"github.com/mailturn/mailturn/imapext/metadata"
)

const (
	// wakeMargin is for clients that ask when less than 12 hours are left, but not at 12 hours.
	wakeMargin = time.Second
	// wakeAgain is the time until a client that has not asked is woken again: its clock may be slow. wakes is how many times in
	// all, enough until the credential has expired.
	wakeAgain = time.Hour
	wakes     = 12
)

// A refreshTimer fires when the credential that a session's client was given last is due for replacement.
type refreshTimer struct {
	due atomic.Bool // set by the timer, for the client's goroutine

	mu    sync.Mutex // guards what follows
	timer *time.Timer
	left  int // how many more times to wake the client
	ended bool
}

// gave is called by the filter with the entries that the client was given.
func (s *session) gave(entries []metadata.Entry) {
	i := slices.IndexFunc(entries, func(e metadata.Entry) bool {
		return (e.Name == TURNEntry || e.Name == TURNSEntry) && !e.Value.IsNIL()
	})
	if i < 0 {
		return
	}
	s.endpoint.credentials.Add(1)
	if s.generation.config.TURN.WakeIdle.V {
		s.wakeWhenDue(entries[i].Value.Octets())
	}
}

// wakeWhenDue sets the timer for the credential that the client was given.
func (s *session) wakeWhenDue(credential string) {
	now := time.Now()
	value, err := discovery.ParseValue(credential)
	if err != nil || value.NeedsRefresh(now) {
		return // a client would ask repeatedly for one that is already due
	}
	r := &s.refresh
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left = wakes
	r.resetLocked(value.Left(now)-discovery.RefreshBefore+wakeMargin, s)
}

func (r *refreshTimer) resetLocked(after time.Duration, s *session) {
	switch {
	case r.ended:
	case r.timer == nil:
		r.timer = time.AfterFunc(after, func() {
			r.due.Store(true)
			s.wake()
		})
	default:
		r.timer.Reset(after)
	}
}

// wakeIdle wakes the client if it is in IDLE. A client that is not will look at its credential anyway.
func (s *session) wakeIdle() {
	if s.filter.RepeatExists() {
		s.debug("waking the client for a new credential")
		if err := s.filter.WriteClient(s.client); err != nil {
			s.debug("write to the client", "err", err)
		}
	}
	r := &s.refresh
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left--; r.left > 0 {
		r.resetLocked(wakeAgain, s)
	}
}

// stop ends the timer with the session.
func (r *refreshTimer) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.timer != nil {
		r.timer.Stop()
	}
}
