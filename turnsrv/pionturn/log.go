package pionturn

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pion/logging"
)

// linesPerMinute bounds the lines that strangers and users can cause.
const linesPerMinute = 20

// pionLog is where the package's own lines go, and a logging.LoggerFactory for pion. It passes on, at debug, what pion takes
// for errors. The rest of what pion says is a line or more for each packet.
type pionLog struct {
	logger *slog.Logger

	mu      sync.Mutex // guards what follows
	minute  time.Time  // when the present one began
	lines   int        // in it
	skipped int
}

// NewLogger implements logging.LoggerFactory.
func (l *pionLog) NewLogger(string) logging.LeveledLogger { return leveled{l} }

// seldom writes a line unless there were many lately.
func (l *pionLog) seldom(message string, args ...any) { l.log(slog.LevelInfo, message, args...) }

func (l *pionLog) log(level slog.Level, message string, args ...any) {
	if !l.logger.Enabled(context.Background(), level) {
		return
	}
	if skipped, due := l.due(time.Now()); due {
		l.logger.Log(context.Background(), level, message, append(args, "skipped", skipped)...)
	}
}

// due reports whether a line may be written, and how many may not since the last one.
func (l *pionLog) due(now time.Time) (skipped int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.minute) >= time.Minute {
		l.minute, l.lines = now, 0
	}
	if l.lines >= linesPerMinute {
		l.skipped++
		return 0, false
	}
	l.lines++
	skipped, l.skipped = l.skipped, 0
	return skipped, true
}

// leveled is a logging.LeveledLogger.
type leveled struct{ log *pionLog }

// Trace and the others implement logging.LeveledLogger.
func (leveled) Trace(string)          {}
func (leveled) Tracef(string, ...any) {}
func (leveled) Debug(string)          {}
func (leveled) Debugf(string, ...any) {}
func (leveled) Info(string)           {}
func (leveled) Infof(string, ...any)  {}
func (leveled) Warn(string)           {}
func (leveled) Warnf(string, ...any)  {}

// Error logs at debug level, because strangers can cause most errors.
func (l leveled) Error(m string) { l.log.log(slog.LevelDebug, "pion reports an error", "err", m) }

// Errorf formats the message only if it is logged.
func (l leveled) Errorf(format string, args ...any) {
	if l.log.logger.Enabled(context.Background(), slog.LevelDebug) {
		l.Error(fmt.Sprintf(format, args...))
	}
}
