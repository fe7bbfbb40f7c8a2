package imap

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/patient"
)

// An autologoutTimer limits the time of a session (RFC 9051 section 5.4): all of the time until login, and afterwards the time since
// the last sign of life.
//
// A sign of life is only noted, because to reset a timer at each would cost more. When the timer fires, it looks how much time is left.
type autologoutTimer struct {
	login, idle time.Duration
	begun       time.Time
	alive       atomic.Int64 // nanoseconds from begun to the last sign of life since login

	mu    sync.Mutex // guards what follows
	timer *time.Timer
	ended bool
}

// begin starts the timer, which calls f when time may be up.
func (t *autologoutTimer) begin(f func()) {
	t.begun = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(min(t.login, t.idle), f)
}

// signOfLife restarts the idle timeout.
func (t *autologoutTimer) signOfLife() { t.alive.Store(int64(time.Since(t.begun))) }

// left returns how much time is left. Before login, no more than the idle timeout may pass before the next look: the client may log in
// at any time.
func (t *autologoutTimer) left(loggedIn bool) time.Duration {
	since := time.Since(t.begun)
	if !loggedIn {
		return min(t.login-since, t.idle)
	}
	return t.idle - (since - time.Duration(t.alive.Load()))
}

// again makes the timer fire again after d, unless it has been stopped.
func (t *autologoutTimer) again(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.timer.Reset(d)
	}
}

// stop stops the timer for good.
func (t *autologoutTimer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if t.timer != nil {
		t.timer.Stop()
	}
}

// signOfLife restarts the idle timeout. Before login it does nothing: the time to log in is limited as a whole.
func (s *session) signOfLife() {
	if s.loggedIn.Load() {
		s.autologout.signOfLife()
	}
}

// timeOut is called by the timer, which is the only limit on a write: a read or a completed write is a sign of life, and a client
// may take its time over a large message, as may a mail server whose disk is busy. The session continues while either end keeps
// accepting bytes that wait for it. A session that does not end by itself after that is cut off.
func (s *session) timeOut() {
	left := s.autologout.left(s.loggedIn.Load())
	switch {
	case s.timedOut.Load():
		s.cut()
	case left > 0:
		s.autologout.again(left)
	case s.loggedIn.Load() && s.takes():
		s.autologout.again(patient.StallTimeout)
	default:
		s.timedOut.Store(true)
		s.autologout.again(byeTimeout)
		s.wake()
	}
}

// takes reports whether bytes are waiting for the client or the backend, and how many has changed since the last call.
func (s *session) takes() bool {
	before := s.unsent
	s.mu.Lock()
	backend := s.backend
	s.mu.Unlock()
	s.unsent = s.client.raw.Unsent() + backend.Unsent()
	return s.unsent != 0 && s.unsent != before
}
