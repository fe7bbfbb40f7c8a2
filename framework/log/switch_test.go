package log

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestSwitch wants debug lines while the level is set, of the logger and of those made of it, and none before and after.
func TestSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written bytes.Buffer
		base, err := New(&written, slog.LevelInfo, "text")
		if err != nil {
			t.Fatal(err)
		}
		var s Switch
		logger := s.Logger(base).With("endpoint", "turn").WithGroup("x")
		logger.Debug("before")
		ended := 0
		s.Set(slog.LevelDebug, time.Minute, func() { ended++ })
		logger.Debug("during")
		base.Debug("elsewhere")
		if level, until, set := s.Level(); !set || level != slog.LevelDebug || !until.Equal(time.Now().Add(time.Minute)) {
			t.Errorf("got %v until %v, %v", level, until, set)
		}
		time.Sleep(time.Minute - time.Second)
		s.Set(slog.LevelError, time.Minute, func() { ended += 10 }) // in its place
		logger.Info("too little")
		time.Sleep(2 * time.Second)
		logger.Info("still too little")
		time.Sleep(time.Minute)
		synctest.Wait()
		logger.Debug("after")
		logger.Info("after")
		s.Set(slog.LevelDebug, time.Minute, func() { ended += 100 })
		s.Reset()
		logger.Debug("reset")
		time.Sleep(time.Hour)
		if ended != 10 {
			t.Errorf("ended: got %d, want 10", ended)
		}
		var messages []string
		for line := range strings.Lines(written.String()) {
			_, message, _ := strings.Cut(strings.TrimSpace(line), " level=")
			messages = append(messages, message)
		}
		want := "DEBUG msg=during endpoint=turn\nINFO msg=after endpoint=turn"
		if got := strings.Join(messages, "\n"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}
