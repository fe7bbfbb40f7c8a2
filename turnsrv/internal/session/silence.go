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

// Silence records how long a client has been silent. Times are those since a fixed moment of the caller's choice, at which the client of
// the zero Silence was heard. Safe for concurrent use.
type Silence struct {
	heardAt atomic.Int64 // nanoseconds, up to hearEvery too early
	leftOut atomic.Bool  // until the client sends something
}

// Hear records that the client has sent something.
func (s *Silence) Hear(at time.Duration) {
	if int64(at)-s.heardAt.Load() >= int64(hearEvery) {
		s.heardAt.Store(int64(at))
		if s.leftOut.Load() {
			s.leftOut.Store(false)
		}
	}
}

// For returns how long the client has been silent, or up to hearEvery longer.
func (s *Silence) For(at time.Duration) time.Duration { return at - time.Duration(s.heardAt.Load()) }

// LeaveOut reports whether data for the client must be dropped to leave room for other clients. It returns true once the socket
// buffer is full and the client has been silent for SilentAfter, and from then on until the client sends something. now is the time at.
func (s *Silence) LeaveOut(full func(now time.Time) bool, now time.Time, at time.Duration) bool {
	if s.leftOut.Load() {
		return true
	}
	if !full(now) || s.For(at) < SilentAfter+hearEvery {
		return false
	}
	s.leftOut.Store(true)
	return true
}
