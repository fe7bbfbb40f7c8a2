// Package log builds the process's logger.
//
// Messages are constant lower-case phrases; what varies is a key. The keys in use: endpoint kind listen client peer relay
// backend session username mailbox method command code status entry bytes packets duration err.
package log

import (
	"fmt"
	"io"
	"log/slog"
)

// New returns a logger that writes lines to w.
//
// level is "debug", "info", "warn" or "error"; format is "text" (key=value) or "json". An empty string stands for "info"
// and for "text". Other values are an error that lists what is accepted.
func New(w io.Writer, level, format string) (*slog.Logger, error) {
	options := &slog.HandlerOptions{}
	switch level {
	case "debug":
		options.Level = slog.LevelDebug
	case "", "info":
		options.Level = slog.LevelInfo
	case "warn":
		options.Level = slog.LevelWarn
	case "error":
		options.Level = slog.LevelError
	default:
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	switch format {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	default:
		return nil, fmt.Errorf("log format %q: want text or json", format)
	}
}
