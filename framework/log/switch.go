package log

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Switch gives a logger another level for a time. Its zero value changes nothing. Safe for concurrent use.
type Switch struct {
	level atomic.Pointer[slog.Level] // nil for the logger's own

	mu    sync.Mutex // guards what follows
	until time.Time
	timer *time.Timer
}

// Logger returns a logger that writes where logger does, at the level of the switch. The handler of logger must leave it to its
// method Enabled to decide what is written, as those of log/slog do.
func (s *Switch) Logger(logger *slog.Logger) *slog.Logger {
	return slog.New(switched{logger.Handler(), s})
}

// Set sets the level for a duration. ended is called after that, unless Set or Reset was called before.
func (s *Switch) Set(level slog.Level, d time.Duration, ended func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	s.level.Store(&level)
	s.until = time.Now().Add(d)
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		s.mu.Lock()
		current := s.timer == timer // it may have fired while Set was being called
		if current {
			s.stop()
		}
		s.mu.Unlock()
		if current {
			ended()
		}
	})
	s.timer = timer
}

// Reset returns to the logger's own level.
func (s *Switch) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
}

// stop returns to the logger's own level. The caller holds the lock.
func (s *Switch) stop() {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer, s.until = nil, time.Time{}
	s.level.Store(nil)
}

// Level returns the level and when it ends, and false if there is none but the logger's own.
func (s *Switch) Level() (level slog.Level, until time.Time, set bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.level.Load(); p != nil {
		return *p, s.until, true
	}
	return 0, time.Time{}, false
}

// switched is a handler with the level of a switch.
type switched struct {
	slog.Handler
	by *Switch
}

// Enabled implements slog.Handler.
func (h switched) Enabled(ctx context.Context, level slog.Level) bool {
	if p := h.by.level.Load(); p != nil {
		return level >= *p
	}
	return h.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h switched) WithAttrs(attrs []slog.Attr) slog.Handler {
	return switched{h.Handler.WithAttrs(attrs), h.by}
}

// WithGroup implements slog.Handler.
func (h switched) WithGroup(name string) slog.Handler {
	return switched{h.Handler.WithGroup(name), h.by}
}
