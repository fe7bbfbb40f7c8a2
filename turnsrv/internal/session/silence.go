package session

import (
	"errors"
	"sync/atomic"
	"time"
)

const (
	// SilentAfter is how long a client must have sent nothing to be considered gone. During a call a client sends more often:
	// media, or the consent checks of RFC 7675 section 5.1 about every five seconds.
	SilentAfter = 10 * time.Second
	// hearEvery is the resolution of Silence. The time is not stored for every packet, to keep its cache line shared between
	// readers.
	hearEvery = time.Second
)

var errSilentClient = errors.New("client is silent and the socket buffer is full")

// Silence records how long a client has been silent. Safe for concurrent use, but Since is set before.
type Silence struct {
	Since time.Time // when the client was first heard

	heardAt atomic.Int64 // nanoseconds after Since, up to hearEvery too early
	leftOut atomic.Bool  // until the client sends something
}

// Hear records that the client has sent something.
func (s *Silence) Hear(now time.Time) {
	if at := int64(now.Sub(s.Since)); at-s.heardAt.Load() >= int64(hearEvery) {
		s.heardAt.Store(at)
		if s.leftOut.Load() {
			s.leftOut.Store(false)
		}
	}
}

// For returns how long the client has been silent, or up to hearEvery longer.
func (s *Silence) For(now time.Time) time.Duration {
	return now.Sub(s.Since) - time.Duration(s.heardAt.Load())
}

// LeaveOut reports whether data for the client must be dropped to leave room for other clients. It returns true once the socket
// buffer is full and the client has been silent for SilentAfter, and from then on until the client sends something.
func (s *Silence) LeaveOut(full func(time.Time) bool, now time.Time) bool {
	if s.leftOut.Load() {
		return true
	}
	if !full(now) || s.For(now) < SilentAfter+hearEvery {
		return false
	}
	s.leftOut.Store(true)
	return true
}
