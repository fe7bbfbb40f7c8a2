package embedded

import (
	"log/slog"
	"testing"
)

// TestCloseAtOnce is for the race detector: go-imap's server is closed when it has hardly begun to serve, as happens when another
// endpoint fails to start.
func TestCloseAtOnce(t *testing.T) {
	for range 200 {
		e, err := New(nil, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		e.Close()
	}
}
