//go:build amd64 || arm64

package kernel

import (
	"strings"
	"testing"
	"time"
)

// TestCheck checks that Load's own test leaves no trace, and that it notices a program that works differently.
func TestCheck(t *testing.T) {
	now := time.Now()
	p := loadForTest(t, 1)
	if counts, err := p.Passed(); err != nil || counts != [NumReasons]uint64{} {
		t.Errorf("counted %v (%v)", counts, err)
	}
	for range 2 { // its entries need no rest
		if err := p.check(now); err != nil {
			t.Fatal(err)
		}
	}
	p.control.Alive = 0 // the program passes everything up
	if err := p.check(now); err == nil || !strings.Contains(err.Error(), "does not work on this system") {
		t.Errorf("a program that relays nothing: %v", err)
	}
}
