package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/mailturn/mailturn/framework/log"
)

// TestJournal writes lines of each level to what JOURNAL_STREAM names, in both formats, and to something else.
func TestJournal(t *testing.T) {
	reader, stream, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer stream.Close()
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(stream.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(reader)
	for _, tt := range []struct {
		journal string
		level   slog.Level
		want    string
	}{
		{fmt.Sprintf("%d:%d", stat.Dev, stat.Ino), slog.LevelError, "<3>"},
		{fmt.Sprintf("%d:%d", stat.Dev, stat.Ino), slog.LevelWarn, "<4>"},
		{fmt.Sprintf("%d:%d", stat.Dev, stat.Ino), slog.LevelInfo, "<6>"},
		{fmt.Sprintf("%d:%d", stat.Dev, stat.Ino), slog.LevelDebug, "<7>"},
		{fmt.Sprintf("%d:%d", stat.Dev, stat.Ino+1), slog.LevelError, ""},
		{"", slog.LevelError, ""},
	} {
		for format, begin := range map[string]string{"text": "time=", "json": `{"time"`} {
			t.Setenv("JOURNAL_STREAM", tt.journal)
			logger, err := log.New(forJournal(stream), slog.LevelDebug, format)
			if err != nil {
				t.Fatal(err)
			}
			logger.Log(context.Background(), tt.level, `no level=ERROR and no "level":"WARN"`)
			if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, tt.want+begin) {
				t.Errorf("JOURNAL_STREAM=%s, %v: got %q, %v, want it to begin with %q", tt.journal, tt.level, line, err, tt.want+begin)
			}
		}
	}
}
