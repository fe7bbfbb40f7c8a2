package imap

import (
	"log/slog"
	"testing"
)

// TestEmbeddedEndsAsSoonAsItHasBegun is for the race detector: go-imap's server is closed when it has hardly begun to
// serve, as it is when another endpoint fails to start.
func TestEmbeddedEndsAsSoonAsItHasBegun(t *testing.T) {
	for range 200 {
		e, err := newEmbedded(nil, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		e.close()
	}
}
