package acme

import (
	"context"
	"log/slog"

	"go.uber.org/zap/zapcore"
)

// toSlog writes certmagic's log lines at level debug: the keeper logs what matters to an operator.
type toSlog struct{ logger *slog.Logger }

// Enabled implements zapcore.Core.
func (c toSlog) Enabled(zapcore.Level) bool {
	return c.logger.Enabled(context.Background(), slog.LevelDebug)
}

// With implements zapcore.Core.
func (c toSlog) With(fields []zapcore.Field) zapcore.Core {
	return toSlog{c.logger.With(attributes(fields)...)}
}

// Check implements zapcore.Core.
func (c toSlog) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c toSlog) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	c.logger.Debug("certmagic: "+entry.Message, attributes(fields)...)
	return nil
}

// Sync implements zapcore.Core.
func (toSlog) Sync() error { return nil }

func attributes(fields []zapcore.Field) (all []any) {
	encoder := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(encoder)
	}
	for key, value := range encoder.Fields {
		all = append(all, slog.Any(key, value))
	}
	return all
}
