package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

// relaysOf returns relays with one secret, and names and incarnations r0, r1 and so on.
func relaysOf(n int) (relays []Relay) {
	for i := range n {
		name := fmt.Sprint("r", i)
		relays = append(relays, Relay{Name: name, Incarnation: name, Server: "s", UDP: []uint16{1}, Secrets: []string{"a"}, Weight: 1})
	}
	return relays
}

// TestNeighbors checks that each relay is probed by as many others as probe, and probes as many.
func TestNeighbors(t *testing.T) {
	for n, want := range map[int]int{1: 0, 2: 1, 3: 2, 4: 3, 200: 3} {
		relays := relaysOf(n)
		probed := make(map[string]int)
		for _, own := range relays {
			neighbors := Neighbors(own, relays)
			distinct := make(map[string]bool)
			for _, r := range neighbors {
				distinct[r.Name] = true
				probed[r.Name]++
			}
			if len(distinct) != want || len(neighbors) != want || distinct[own.Name] {
				t.Errorf("%s of %d relays probes %v", own.Name, n, distinct)
			}
		}
		for name, by := range probed {
			if by != want {
				t.Errorf("%s of %d relays is probed by %d", name, n, by)
			}
		}
	}
	relays := relaysOf(4)
	relays[1].Secrets, relays[2].Weight, relays[3].Refuses = []string{"b"}, 0, Draining
	if neighbors := Neighbors(relays[0], relays); len(neighbors) != 0 {
		t.Errorf("probes %v, which have another secret, get no calls, or drain", neighbors)
	}
}

func TestCollectFailures(t *testing.T) {
	relays := relaysOf(4)
	relays[0].Failed = map[string]string{"r3": "no answer", "r0": "itself", "gone": "no answer"}
	relays[1].FailedBy = []string{"a: from Redis", "b: from Redis"}
	relays[3].Failed = map[string]string{"r3": "itself"}
	collectFailures(relays)
	for i := range relays {
		if !relays[i].Reachable() {
			t.Errorf("%s is unreachable: %q", relays[i].Name, relays[i].FailedBy)
		}
	}
	relays[2].Failed = map[string]string{"r3": "refused"}
	collectFailures(relays)
	if got := strings.Join(relays[3].FailedBy, ", "); got != "r0: no answer, r2: refused" || relays[3].Reachable() || relays[3].Welcomes() {
		t.Errorf("r3 is reachable although two relays failed: %q", got)
	}
}

func TestFailure(t *testing.T) {
	if got := Failure(errors.New(strings.Repeat("é", 300) + "\xff")); len(got) > maxFailure || !utf8.ValidString(got) {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

// TestFailuresExpire has two relays report that they cannot reach a third one, and then die.
func TestFailuresExpire(t *testing.T) {
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, two, three := join(t, settings, "one", "1"), join(t, settings, "two", "2"), join(t, settings, "three", "3")
	failed := func(r *Relay) { r.Failed = map[string]string{"1": "no answer"} }
	two.set(failed)
	three.set(failed)
	reports := func() string {
		for _, r := range one.Relays() {
			if r.Name == "one" {
				return fmt.Sprint(r.FailedBy, r.Reachable())
			}
		}
		return ""
	}
	eventually(t, "reports", reports, "[three: no answer two: no answer] false")
	two.stop()
	<-two.stopped
	eventually(t, "reports after one of them has died", reports, "[three: no answer] true")
}
