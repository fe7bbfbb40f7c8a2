package pionturn

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/pion/logging"
)

// pionLog writes the log of this package, and is a logging.LoggerFactory for pion. Of pion's messages, it logs only the errors, at
// debug level, because pion logs at least one line for each packet. Strangers and users can cause all lines, so each kind is
// logged once per minute. Safe for concurrent use.
type pionLog struct {
	logger  *slog.Logger
	samples limit.Sampler
}

// NewLogger implements logging.LoggerFactory.
func (l *pionLog) NewLogger(string) logging.LeveledLogger { return leveled{l} }

// info logs a message of the given kind at level info.
func (l *pionLog) info(kind, message string, args ...any) {
	l.log(slog.LevelInfo, kind, message, args...)
}

func (l *pionLog) log(level slog.Level, kind, message string, args ...any) {
	if !l.logger.Enabled(context.Background(), level) {
		return
	}
	if skipped, due := l.samples.Next(kind, time.Now()); due {
		l.logger.Log(context.Background(), level, message, append(args, "skipped", skipped)...)
	}
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
func (l leveled) Error(m string) { l.log.log(slog.LevelDebug, m, "pion reports an error", "err", m) }

// Errorf formats the message only if it is logged.
func (l leveled) Errorf(format string, args ...any) {
	if l.log.logger.Enabled(context.Background(), slog.LevelDebug) {
		l.Error(fmt.Sprintf(format, args...))
	}
}
