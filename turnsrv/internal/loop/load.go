package loop

import "time"

const (
	// loadPeriod is the period over which a load is measured.
	loadPeriod = 10 * time.Millisecond
	// gatherFrom is the rate in packets per second from which waiting for more packets saves time.
	gatherFrom = 2500
	// gatherFor is the number of packets that are expected during such a wait.
	gatherFor = 16
	// unannouncedFrom is the rate in packets per second from which the next packet is expected during an unannounced wait.
	unannouncedFrom = 500
)

// load measures how many packets a loop receives.
type load struct {
	since   time.Time
	packets int
	rate    int // packets per second in the last whole period
}

func (l *load) add(packets int, now time.Time) {
	l.packets += packets
	if passed := now.Sub(l.since); passed >= loadPeriod {
		l.rate = int(time.Duration(l.packets) * time.Second / passed)
		l.since, l.packets = now, 0
	}
}

// gather returns how long to wait for more packets, at most longest. Zero means not at all.
func (l *load) gather(longest time.Duration) time.Duration {
	if l.rate < gatherFrom {
		return 0
	}
	return min(longest, gatherFor*time.Second/time.Duration(l.rate))
}
