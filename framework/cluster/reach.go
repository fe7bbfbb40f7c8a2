package cluster

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Limits of the probes of each other.
const (
	// probers is how many others probe each relay.
	probers = 3
	// enoughReports is how many of them have to fail for a relay to be unreachable. One alone may have a bad network itself.
	enoughReports = 2
	// maxFailure is the length of a reason in bytes.
	maxFailure = 200
)

// Neighbors returns the relays that the relay of this process with this name has to probe, at most three. Each relay is probed by
// the three that precede it in the order of the hashes of their names, so that the probers of a relay are mostly in other places.
// Only relays that accept a secret of own are among them, and no relay that refuses calls, or has no share of the accounts.
func Neighbors(own Relay, relays []Relay) (neighbors []Relay) {
	type place struct {
		hash  [sha256.Size]byte
		relay Relay
	}
	var ring []place
	for _, r := range relays {
		shares := slices.ContainsFunc(r.Secrets, func(id string) bool { return slices.Contains(own.Secrets, id) })
		if r.Name != own.Name && shares && r.Refuses == "" && r.Weight > 0 {
			ring = append(ring, place{sha256.Sum256([]byte(r.Name)), r})
		}
	}
	slices.SortFunc(ring, func(a, b place) int { return slices.Compare(a.hash[:], b.hash[:]) })
	here := sha256.Sum256([]byte(own.Name))
	first, _ := slices.BinarySearchFunc(ring, here, func(p place, h [sha256.Size]byte) int { return slices.Compare(p.hash[:], h[:]) })
	for i := range min(probers, len(ring)) {
		neighbors = append(neighbors, ring[(first+i)%len(ring)].relay)
	}
	return neighbors
}

// Failure is the reason for a failed probe, in the form in which it is announced.
func Failure(err error) string {
	text := strings.ToValidUTF8(err.Error(), "?")
	return strings.ToValidUTF8(text[:min(len(text), maxFailure)], "")
}

// Reachable reports whether fewer than two other relays have failed to reach the relay.
func (r Relay) Reachable() bool { return len(r.FailedBy) < enoughReports }

// checkFailed checks what a relay reports about others.
func (r Relay) checkFailed() error {
	if len(r.Failed) > probers {
		return fmt.Errorf("it has failed to reach %d relays, and probes %d", len(r.Failed), probers)
	}
	for incarnation, reason := range r.Failed {
		if max(len(incarnation), len(reason)) > maxName {
			return errors.New("an element of failed is too long")
		}
	}
	return nil
}

// collectFailures sets the FailedBy of each relay. What others report about an earlier incarnation does not count.
func collectFailures(relays []Relay) {
	reports := make(map[string]map[string]string) // by incarnation and name of the reporter
	for _, reporter := range relays {
		for incarnation, reason := range reporter.Failed {
			if reports[incarnation] == nil {
				reports[incarnation] = make(map[string]string)
			}
			reports[incarnation][reporter.Name] = reason
		}
	}
	for i := range relays {
		r := &relays[i]
		r.FailedBy = nil
		for _, name := range slices.SortedFunc(maps.Keys(reports[r.Incarnation]), cmp.Compare[string]) {
			if name != r.Name {
				r.FailedBy = append(r.FailedBy, name+": "+reports[r.Incarnation][name])
			}
		}
	}
}
