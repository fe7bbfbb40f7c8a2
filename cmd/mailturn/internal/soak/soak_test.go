package soak

import (
	"bytes"
	"testing"
	"time"
)

// TestSoak runs a soak of 20 seconds, with lifetimes so short that the allocations of clients that left silently also end.
func TestSoak(t *testing.T) {
	var out bytes.Buffer
	err := soak(t.Context(), options{
		duration: 20 * time.Second, pause: 200 * time.Millisecond, lifetime: 10 * time.Second, clients: 50, seed: 1,
	}, &out)
	t.Log(out.String())
	if err != nil {
		t.Error(err)
	}
}
