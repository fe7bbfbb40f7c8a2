package log

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// LinesPerMinute is how many lines a Limit lets through in a minute.
const LinesPerMinute = 20

// A Limit lets through so many log lines a minute that an attack or an outage shows and does not fill the disk. Its
// zero value is ready for use, and it is safe for concurrent use.
type Limit struct {
	mu         sync.Mutex
	window     time.Time // when the present minute began
	count      int       // lines in it
	suppressed int       // since the last line that was let through
}

// Allow reports whether one more line may be written, and how many were not since the last one that was.
func (l *Limit) Allow(now time.Time) (allowed bool, suppressed int) {
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

// Log writes a line if one more may be written, which tells as "suppressed" how many were not since the last one that was.
func (l *Limit) Log(logger *slog.Logger, level slog.Level, message string, args ...any) {
	if allowed, suppressed := l.Allow(time.Now()); allowed {
		logger.Log(context.Background(), level, message, append(args, "suppressed", suppressed)...)
	}
}
