package embedded

import (
	"log/slog"
	"testing"
)

// TestCloseAtOnce is for the race detector: it closes go-imap's server immediately, as when another endpoint fails to start.
func TestCloseAtOnce(t *testing.T) {
	for range 200 {
		e, err := New(nil, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		e.Close()
	}
}
