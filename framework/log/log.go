// Package log creates the process's logger.
//
// Messages are constant lower-case phrases; what varies is a key. The keys in use: endpoint kind listen client peer relay
// backend session username mailbox method command code status entry bytes packets duration err.
package log

import (
	"fmt"
	"io"
	"log/slog"
)

// Level returns the level that a configuration names: "debug", "info", "warn" or "error", and info for the empty string.
// Other names are an error that lists these.
func Level(name string) (slog.Level, error) {
	switch name {
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	default:
		return 0, fmt.Errorf("log level %q: want debug, info, warn or error", name)
	}
}

// New returns a logger that writes lines of at least level to w. format is "text" (key=value), which the empty string stands
// for too, or "json"; others are an error that lists what is accepted.
func New(w io.Writer, level slog.Leveler, format string) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	default:
		return nil, fmt.Errorf("log format %q: want text or json", format)
	}
}
