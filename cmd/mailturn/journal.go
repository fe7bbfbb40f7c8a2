package main

import (
	"bytes"
	"io"
	"os"
)

// forJournal returns a writer of log lines to w. If that is a stream to systemd's journal, each begins with its severity
// (sd-daemon(3)), so that "journalctl -p warning" works.
func forJournal(w io.Writer) io.Writer {
	if file, ok := w.(*os.File); ok && isJournal(file) {
		return journal{w}
	}
	return w
}

// journal is written to by a handler of log/slog, one line at a time, with only the time before the level.
type journal struct{ stream io.Writer }

func (j journal) Write(line []byte) (int, error) {
	key := []byte("level=")
	if bytes.HasPrefix(line, []byte("{")) {
		key = []byte(`"level":"`)
	}
	_, level, _ := bytes.Cut(line, key)
	severity := "<6>" // info, syslog(3)
	switch {
	case bytes.HasPrefix(level, []byte("ERROR")):
		severity = "<3>"
	case bytes.HasPrefix(level, []byte("WARN")):
		severity = "<4>"
	case bytes.HasPrefix(level, []byte("DEBUG")):
		severity = "<7>"
	}
	if _, err := j.stream.Write(append([]byte(severity), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
