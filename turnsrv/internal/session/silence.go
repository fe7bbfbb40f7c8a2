package session

import (
	"errors"
	"sync/atomic"
	"time"
)

const (
	// SilentAfter is how long nothing has come from a client that may be taken for gone. One in a call sends more often: media,
	// or the checks of consent that RFC 7675 section 5.1 has it make every five seconds or so.
	SilentAfter = 10 * time.Second
	// hearEvery is how exactly it is known when something has come from a client: who looks at it need not wait for who
	// writes it with each packet.
	hearEvery = time.Second
)

var errSilentClient = errors.New("client is silent and the socket buffer is full")

// Silence is what is known of how long a client has been silent. Safe for concurrent use.
type Silence struct {
	heardAt atomic.Int64 // in Unix nanoseconds, up to hearEvery late
	leftOut atomic.Bool  // until something comes from the client
}

// Hear notes that something has come from the client.
func (s *Silence) Hear(now time.Time) {
	if at := now.UnixNano(); at-s.heardAt.Load() >= int64(hearEvery) {
		s.heardAt.Store(at)
		if s.leftOut.Load() {
			s.leftOut.Store(false)
		}
	}
}

// LeaveOut reports whether data for the client is to be dropped so that others find room: its socket is full, or was when the
// client began to be left out, and nothing has come from the client for silentAfter.
func (s *Silence) LeaveOut(full func(time.Time) bool, now time.Time) bool {
	if s.leftOut.Load() {
		return true
	}
	if !full(now) || now.UnixNano()-s.heardAt.Load() < int64(SilentAfter+hearEvery) {
		return false
	}
	s.leftOut.Store(true)
	return true
}
