package acme

import (
	"crypto/x509"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// TestClock checks that the clock is blamed if a certificate that has just been issued is due for renewal, or not valid yet:
// repeated renewal would exhaust the authority's limits.
func TestClock(t *testing.T) {
	issued := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := &certificate{leaf: &x509.Certificate{NotBefore: issued, NotAfter: issued.AddDate(0, 0, 90)}}
	for now, good := range map[time.Time]bool{
		issued: true, issued.Add(-30 * time.Second): true, issued.Add(-time.Hour): false, issued.AddDate(0, 0, 59): true, issued.AddDate(0, 0, 60): false, issued.AddDate(1, 0, 0): false,
	} {
		if err := c.checkClock(now); (err == nil) != good {
			t.Errorf("at %v: %v", now, err)
		}
	}
}

// TestRenewalTime checks for the time that the authority suggests, within limits, and for two thirds of the lifetime without a
// suggestion.
func TestRenewalTime(t *testing.T) {
	issued := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return issued.AddDate(0, 0, n) }
	c := &certificate{leaf: &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: issued, NotAfter: day(90)}}
	for _, tt := range []struct {
		suggested int // day, or none
		want      int
	}{{0, 60}, {20, 20}, {70, 70}, {80, 75}} {
		k := &keeper{run: &run{}, logger: slog.New(slog.DiscardHandler), now: func() time.Time { return issued }, infoOf: "7", askNext: day(1)}
		if tt.suggested > 0 {
			k.info = acme.RenewalInfo{SelectedTime: day(tt.suggested)}
			k.info.SuggestedWindow.Start, k.info.SuggestedWindow.End = day(tt.suggested), day(tt.suggested)
		}
		if got := k.renewal(t.Context(), c); !got.Equal(day(tt.want)) {
			t.Errorf("suggested day %d: renewed at %v, want day %d", tt.suggested, got, tt.want)
		}
	}
	if got := c.rest(); got != maxSleep {
		t.Errorf("a new certificate is not checked for %v, want %v", got, maxSleep)
	}
}
