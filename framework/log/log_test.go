package log

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestNewHonoursLevelAndFormat(t *testing.T) {
	for _, tt := range []struct {
		name, level, format string
		want                []string
		absent              string
	}{
		{"defaults", "", "", []string{"level=INFO msg=listening", "level=WARN msg=slow"}, "DEBUG"},
		{"debug", "debug", "text", []string{"level=DEBUG msg=request"}, "\x00"},
		{"json warnings", "warn", "json", []string{`"level":"WARN","msg":"slow"`}, "INFO"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			level, err := Level(tt.level)
			if err != nil {
				t.Fatal(err)
			}
			logger, err := New(&out, level, tt.format)
			if err != nil {
				t.Fatal(err)
			}
			logger.Debug("request")
			logger.Info("listening")
			logger.Warn("slow")
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got %q, want it to contain %q", out.String(), want)
				}
			}
			if strings.Contains(out.String(), tt.absent) {
				t.Errorf("got %q, want no %q", out.String(), tt.absent)
			}
		})
	}
}

func TestUnknownWordsAreRefused(t *testing.T) {
	if _, err := Level("loud"); err == nil || !strings.Contains(err.Error(), "want ") {
		t.Errorf(`Level("loud"): %v, want an error that lists what is accepted`, err)
	}
	if _, err := New(&bytes.Buffer{}, slog.LevelInfo, "xml"); err == nil || !strings.Contains(err.Error(), "want ") {
		t.Errorf(`New with the format "xml": %v, want an error that lists what is accepted`, err)
	}
}
