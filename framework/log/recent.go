package log

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Bounds of Recent.
const (
	maxRecent     = 100
	maxRecentLine = 1000 // bytes
)

// Recent keeps the last warnings and errors of a logger in memory. Its zero value is ready to use. It is safe for concurrent use.
type Recent struct {
	mu     sync.Mutex
	buffer bytes.Buffer // for the line that is being formatted
	lines  []Line       // a ring of maxRecent
	next   int
}

// A Line is one line of the log.
type Line struct {
	Time  time.Time
	Level slog.Level
	Text  string // message and keys as in the format "text", cut off after 1000 bytes
}

// Logger returns a logger that writes what logger writes, and keeps the warnings and errors.
func (r *Recent) Logger(logger *slog.Logger) *slog.Logger {
	format := slog.NewTextHandler(&r.buffer, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		},
	})
	return slog.New(recentHandler{logger.Handler(), format, r})
}

// Lines returns what was kept, the newest line first.
func (r *Recent) Lines() []Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := make([]Line, len(r.lines))
	for i := range lines {
		lines[i] = r.lines[(r.next+len(r.lines)-1-i)%len(r.lines)]
	}
	return lines
}

func (r *Recent) add(ctx context.Context, format slog.Handler, record slog.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buffer.Reset()
	if format.Handle(ctx, record) != nil {
		return
	}
	text := bytes.TrimSpace(r.buffer.Bytes())
	line := Line{record.Time, record.Level, strings.ToValidUTF8(string(text[:min(len(text), maxRecentLine)]), "")}
	if r.buffer.Cap() > 16*maxRecentLine {
		r.buffer = bytes.Buffer{}
	}
	if len(r.lines) < maxRecent {
		r.lines = append(r.lines, line)
		r.next = len(r.lines) % maxRecent
		return
	}
	r.lines[r.next] = line
	r.next = (r.next + 1) % maxRecent
}

// recentHandler is the handler of Recent.Logger: next writes, and format is the same for the lines that are kept.
type recentHandler struct {
	next, format slog.Handler
	recent       *Recent
}

// Enabled implements slog.Handler.
func (h recentHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h recentHandler) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelWarn {
		h.recent.add(ctx, h.format, record)
	}
	return h.next.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (h recentHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return recentHandler{h.next.WithAttrs(attrs), h.format.WithAttrs(attrs), h.recent}
}

// WithGroup implements slog.Handler.
func (h recentHandler) WithGroup(name string) slog.Handler {
	return recentHandler{h.next.WithGroup(name), h.format.WithGroup(name), h.recent}
}
