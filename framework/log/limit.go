package log

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// LinesPerMinute is how many lines a Limit allows in a minute.
const LinesPerMinute = 20

// A Limit allows enough log lines a minute to show an attack or an outage, but not enough to fill the disk. Its zero value is ready
// to use. It is safe for concurrent use.
type Limit struct {
	mu         sync.Mutex
	window     time.Time // when the present minute began
	count      int       // lines in it
	suppressed int       // since the last line that was let through
}

// allow reports whether another line may be written, and how many were suppressed since the last one.
func (l *Limit) allow(now time.Time) (allowed bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.window) >= time.Minute {
		l.window, l.count = now, 0
	}
	if l.count >= LinesPerMinute {
		l.suppressed++
		return false, 0
	}
	l.count++
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}

// Log writes a line unless there were too many in this minute. Its attribute "suppressed" is how many lines were left out since the
// last one.
func (l *Limit) Log(logger *slog.Logger, level slog.Level, message string, args ...any) {
	if allowed, suppressed := l.allow(time.Now()); allowed {
		logger.Log(context.Background(), level, message, append(args, "suppressed", suppressed)...)
	}
}
