package imap

import (
	"sync"
	"time"
)

const linesPerMinute = 20

// A logLimit lets through so many log lines a minute that an attack or an outage shows and does not fill the disk. Its
// zero value is ready for use, and it is safe for concurrent use.
type logLimit struct {
	mu         sync.Mutex
	window     time.Time // when the present minute began
	count      int       // lines in it
	suppressed int       // since the last line that was let through
}

// allow reports whether one more line may be written, and how many were not since the last one that was.
func (l *logLimit) allow(now time.Time) (allowed bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.window) >= time.Minute {
		l.window, l.count = now, 0
	}
	if l.count >= linesPerMinute {
		l.suppressed++
		return false, 0
	}
	l.count++
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}
