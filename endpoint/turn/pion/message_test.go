package pion

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestForward checks that a log line of the engine becomes one of the endpoint, with its time and level.
func TestForward(t *testing.T) {
	var engine, got, want bytes.Buffer
	at := time.Date(2026, 11, 30, 1, 2, 3, 0, time.UTC)
	write := func(handler slog.Handler, level slog.Level) {
		record := slog.NewRecord(at, level, "allocation made", 0)
		record.Add("client", "192.0.2.1:1", "n", 7, "ratio", 0.5, "ok", true, slog.Group("allocation", "username", "alice \"x\"", "z", 1, "a", 2))
		if err := handler.Handle(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	logger := slog.New(slog.NewTextHandler(&got, nil)).With("endpoint", "turn")
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelError} {
		engine.Reset()
		write(slog.NewJSONHandler(&engine, &slog.HandlerOptions{Level: slog.LevelDebug}), level)
		forward(logger, engine.Bytes())
		if level >= slog.LevelInfo {
			write(slog.NewTextHandler(&want, nil).WithAttrs([]slog.Attr{slog.String("endpoint", "turn")}), level)
		}
	}
	if got.String() != want.String() {
		t.Errorf("got\n%swant\n%s", &got, &want)
	}
	got.Reset()
	for _, line := range []string{"", "panic: x", "[]", `{"level":`, `"x"`, `{"level":{}}`, `{"a":{"b":`} {
		forward(logger, []byte(line))
	}
	if text := got.String(); strings.Count(text, "\n") > 1 {
		t.Errorf("something other than a log line is logged:\n%s", text)
	}
}

// TestLongLines checks that a line that is too long is dropped, and that the next one is read.
func TestLongLines(t *testing.T) {
	lines := newLineReader(strings.NewReader("first\n" + strings.Repeat("x", 3*maxLine) + "\nlast\n"))
	for _, want := range []string{"first\n", "last\n"} {
		if line, err := lines.next(); err != nil || string(line) != want {
			t.Errorf("got %.20q, %v, want %q", line, err, want)
		}
	}
	if line, err := lines.next(); err == nil {
		t.Errorf("got %q at the end", line)
	}
}

// TestEnvironment checks that the engine gets neither secrets nor the service manager's socket.
func TestEnvironment(t *testing.T) {
	got := environment([]string{"TURN_SECRET=x", "GOMEMLIMIT=1GiB", "NOTIFY_SOCKET=/run/x", "GODEBUG=y"})
	if want := "GOMEMLIMIT=1GiB GODEBUG=y"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
