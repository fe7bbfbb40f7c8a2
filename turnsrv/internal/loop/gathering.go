package loop

import "time"

const (
	// gatherFrom is the rate in packets per second below which a thread never waits for more packets.
	gatherFrom = 2500
	// gatherFor is the number of packets that such a wait is to bring.
	gatherFor = 16
	// gatherPeriod is how long a thread waits for more packets, or does not, before it compares both.
	gatherPeriod = 10 * time.Millisecond
	// gatherLeast is the number of packets that a period must have for the comparison.
	gatherLeast = 20
	// gatherTrial is the number of periods of which one is spent on the way that has been worse so far.
	gatherTrial = 16
	// gatherGain is the share of sleeps that must remain at most for waits to pay, because they delay packets.
	gatherGain = 0.8
)

// gathering decides whether a thread waits for more packets after a round. Being put to sleep and woken costs more than relaying a
// packet. When packets come alone, a wait replaces the sleeps before several of them with one; when they come in bursts, a wait only
// adds a sleep. Therefore a thread tries both ways, and chooses the one that sleeps less often per packet.
type gathering struct {
	wait    bool       // in this period
	since   time.Time  // begin of the period
	packets int        // in this period
	sleeps  int        // in this period
	tried   [2]bool    // without and with waits
	sleepy  [2]float64 // sleeps per packet, without and with waits
	periods int
}

// pause returns how long to wait for more packets at a rate in packets per second, at most longest. Zero means not at all.
func (g *gathering) pause(longest time.Duration, rate int) time.Duration {
	if !g.wait || rate < gatherFrom {
		return 0
	}
	return min(longest, gatherFor*time.Second/time.Duration(rate))
}

// add counts what a thread has done since the last call: whether it slept, and how many packets it then found.
func (g *gathering) add(sleeps, packets, rate int, now time.Time) {
	g.sleeps += sleeps
	g.packets += packets
	if now.Sub(g.since) < gatherPeriod {
		return
	}
	if g.packets >= gatherLeast && rate >= gatherFrom {
		g.compare()
	}
	g.since, g.packets, g.sleeps = now, 0, 0
}

// compare ends a period and decides about the next one.
func (g *gathering) compare() {
	way := 0
	if g.wait {
		way = 1
	}
	now := float64(g.sleeps) / float64(g.packets)
	if !g.tried[way] {
		g.tried[way], g.sleepy[way] = true, now
	}
	g.sleepy[way] += (now - g.sleepy[way]) / 4
	g.periods++
	switch {
	case !g.tried[1-way]:
		g.wait = !g.wait
	default:
		g.wait = g.sleepy[1] < gatherGain*g.sleepy[0]
		if g.periods%gatherTrial == 0 {
			g.wait = !g.wait
		}
	}
}
