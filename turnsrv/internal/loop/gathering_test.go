package loop

import (
	"testing"
	"time"
)

// TestGathering checks that a thread waits for more packets only where it is then put to sleep less often.
func TestGathering(t *testing.T) {
	// What a thread does in a round, with and without waits, at 10,000 packets a second.
	type round struct{ sleeps, packets int }
	for name, test := range map[string]struct {
		without, with []round
		waits         bool
	}{
		"single packets":     {[]round{{1, 1}}, []round{{1, 3}, {1, 2}}, true},
		"bursts":             {[]round{{1, 4}, {0, 6}}, []round{{1, 3}, {1, 7}, {1, 0}}, false},
		"saturation":         {[]round{{0, 16}}, []round{{1, 16}}, false},
		"little to be saved": {[]round{{1, 1}}, []round{{1, 1}, {1, 2}, {1, 1}, {1, 0}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			const rate, tick = 10_000, 100 * time.Microsecond
			var g gathering
			var now time.Time
			waited, rounds := 0, 0
			for ; now.Before(time.Time{}.Add(2 * time.Second)); rounds++ {
				does := test.without
				if g.pause(MaxGather, rate) > 0 {
					does = test.with
					waited++
				}
				r := does[rounds%len(does)]
				now = now.Add(max(1, time.Duration(r.packets)) * tick)
				g.add(r.sleeps, r.packets, rate, now)
			}
			if share := float64(waited) / float64(rounds); test.waits != (share > 0.8) || !test.waits && share > 0.2 {
				t.Errorf("it waited after %.0f %% of the rounds", 100*share)
			}
		})
	}
}

// TestGatheringPause checks how long a thread waits at different rates.
func TestGatheringPause(t *testing.T) {
	g := gathering{wait: true}
	for rate, want := range map[int]time.Duration{
		0: 0, gatherFrom - 1: 0, gatherFrom: MaxGather, 10_000: MaxGather, 1_000_000: 16 * time.Microsecond,
	} {
		if got := g.pause(MaxGather, rate); got != want {
			t.Errorf("%d packets a second: %v, want %v", rate, got, want)
		}
	}
	if got := (&gathering{}).pause(MaxGather, 10_000); got != 0 {
		t.Errorf("where waits do not pay: %v", got)
	}
}
