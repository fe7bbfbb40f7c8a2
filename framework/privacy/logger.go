package privacy

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// Logger returns a logger that writes what logger writes, with masked addresses and accounts. Everything that may contain an address is
// masked, except under keys that name what is the server's own.
func (m *Mask) Logger(logger *slog.Logger) *slog.Logger {
	return slog.New(handler{logger.Handler(), m})
}

// handler is the handler of Mask.Logger.
type handler struct {
	next slog.Handler
	mask *Mask
}

// Enabled implements slog.Handler.
func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, record slog.Record) error {
	if h.mask.masksNothing() {
		return h.next.Handle(ctx, record)
	}
	masked := slog.NewRecord(record.Time, record.Level, h.mask.Text(record.Message), record.PC)
	record.Attrs(func(a slog.Attr) bool {
		masked.AddAttrs(h.mask.attr(a))
		return true
	})
	return h.next.Handle(ctx, masked)
}

// WithAttrs implements slog.Handler. Attributes of a logger are masked as the settings are at that time.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	masked := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		masked[i] = h.mask.attr(a)
	}
	return handler{h.next.WithAttrs(masked), h.mask}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.next.WithGroup(name), h.mask}
}

func (m *Mask) masksNothing() bool { return m.modes() == Settings{None, None} }

// attr masks an attribute of a log line.
func (m *Mask) attr(a slog.Attr) slog.Attr {
	if m.masksNothing() {
		return a
	}
	value := a.Value.Resolve()
	switch {
	case value.Kind() == slog.KindGroup:
		group := value.Group()
		masked := make([]slog.Attr, len(group))
		for i, inner := range group {
			masked[i] = m.attr(inner)
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(masked...)}
	case isOwn(a.Key):
		return slog.Attr{Key: a.Key, Value: value}
	case isAccount(a.Key):
		return slog.String(a.Key, m.Account(text(value)))
	case value.Kind() == slog.KindString, value.Kind() == slog.KindAny:
		was := text(value)
		if masked := m.Text(was); masked != was {
			return slog.String(a.Key, masked)
		}
	}
	return slog.Attr{Key: a.Key, Value: value}
}

// text returns what a text handler writes for a value.
func text(v slog.Value) string {
	if v.Kind() == slog.KindAny {
		return fmt.Sprintf("%+v", v.Any())
	}
	return v.String()
}

// isOwn reports whether the addresses under a key are those of the server, or of what the operator has configured.
func isOwn(key string) bool {
	switch key {
	case "listen", "relay", "relay_ip", "relay_bind", "backend", "source", "prefixes", "socket", "descriptor", "proxy", "rule", "stack":
		return true
	}
	return false
}

func isAccount(key string) bool {
	switch strings.ToLower(key) {
	case "account", "username", "user", "mailbox":
		return true
	}
	return false
}
