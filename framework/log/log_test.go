package log

import (
	"bytes"
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
			logger, err := New(&out, tt.level, tt.format)
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

func TestNewRefusesUnknownWords(t *testing.T) {
	for _, tt := range [][2]string{{"loud", "text"}, {"info", "xml"}} {
		if _, err := New(&bytes.Buffer{}, tt[0], tt[1]); err == nil || !strings.Contains(err.Error(), "want ") {
			t.Errorf("New(%q, %q) = %v, want an error that lists what is accepted", tt[0], tt[1], err)
		}
	}
}
