package log

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestRecent(t *testing.T) {
	var out bytes.Buffer
	var r Recent
	logger := r.Logger(slog.New(slog.NewTextHandler(&out, nil))).With("endpoint", "turn").WithGroup("allocation")
	logger.Info("listening")
	logger.Warn("a <script>", "username", "alice\nbob")
	logger.Error("broken", "level", 3)
	lines := r.Lines()
	want := []string{`msg=broken endpoint=turn allocation.level=3`, `msg="a <script>" endpoint=turn allocation.username="alice\nbob"`}
	if len(lines) != 2 || lines[0].Text != want[0] || lines[1].Text != want[1] || lines[0].Level != slog.LevelError || lines[0].Time.IsZero() {
		t.Errorf("got %+v, want %q", lines, want)
	}
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("%d lines were written, want 3:\n%s", n, out.String())
	}
}

// TestRecentIsBounded logs more and longer lines than are kept.
func TestRecentIsBounded(t *testing.T) {
	var r Recent
	logger := r.Logger(slog.New(slog.NewTextHandler(new(bytes.Buffer), nil)))
	for i := range 3*maxRecent + 7 {
		logger.Warn("line", "i", i, "long", strings.Repeat("x", 100*maxRecentLine))
	}
	lines := r.Lines()
	if len(lines) != maxRecent {
		t.Fatalf("%d lines are kept, want %d", len(lines), maxRecent)
	}
	for i, line := range lines {
		if want := fmt.Sprintf("msg=line i=%d long=", 3*maxRecent+6-i); !strings.HasPrefix(line.Text, want) || len(line.Text) > maxRecentLine {
			t.Fatalf("line %d is %.30q of %d bytes, want %q", i, line.Text, len(line.Text), want)
		}
	}
	if r.buffer.Cap() > 16*maxRecentLine {
		t.Errorf("a buffer of %d bytes stays", r.buffer.Cap())
	}
}
