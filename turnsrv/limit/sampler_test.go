package limit

import (
	"testing"
	"time"
)

func TestT36CountersNotLines(t *testing.T) {
	var s Sampler
	now := time.Unix(0, 0)
	lines := 0
	for range 1000 {
		if _, due := s.Next("rule", now); due {
			lines++
		}
	}
	if skipped, due := s.Next("rule", now.Add(SamplePeriod)); lines != 1 || !due || skipped != 999 {
		t.Errorf("%d lines, then due %v with %d skipped; want 1, true, 999", lines, due, skipped)
	}
	// Many keys, such as the prefixes that an operator denies, do not lead to more lines.
	for minute := range 3 {
		now = now.Add(SamplePeriod)
		lines = 0
		for range 3 {
			for i := range 10 * maxSampleKeys {
				if _, due := s.Next(string(rune('a'+i)), now); due {
					lines++
				}
			}
		}
		if lines > maxSampleKeys+1 || len(s.keys) > maxSampleKeys+1 {
			t.Errorf("minute %d: %d lines, %d keys are remembered", minute, lines, len(s.keys))
		}
	}
}
