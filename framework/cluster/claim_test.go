package cluster

import (
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

// TestClaim wants one of several machines to be the first, also if somebody else has used the key, and Fetch to return what is published.
func TestClaim(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, server.Addr)
	one, two := newSharer().connect(t, settings, "1", ""), newSharer().connect(t, settings, "2", "")
	claim := func(s *sharer, what string, want bool) {
		t.Helper()
		if first, err := s.Claim(t.Context(), what); err != nil || first != want {
			t.Errorf("%s: %v, %v; want %v", what, first, err, want)
		}
	}
	claim(two, "a", true)
	claim(one, "a", false)
	claim(two, "a", false)
	claim(one, "b", true)
	if left := one.directory.client.PTTL(t.Context(), one.key("claims")).Val(); left <= 0 || left > claimLifetime {
		t.Errorf("claims end after %v", left)
	}
	if err := one.directory.client.Set(t.Context(), one.key("claims"), "x", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Claim(t.Context(), "c"); !isForeign(err) {
		t.Errorf("another type of key: %v", err)
	}
	claim(one, "c", true)

	if err := one.set(t, "x", "1"); err != nil {
		t.Fatal(err)
	}
	entries, err := two.Fetch(t.Context())
	if err != nil || len(entries) != 1 || entries[0].Value != "1" {
		t.Errorf("fetched %+v, %v", entries, err)
	}
}
