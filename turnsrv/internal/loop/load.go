package loop

import "time"

const (
	// loadPeriod is the period over which a load is measured.
	loadPeriod = 10 * time.Millisecond
	// unannouncedFrom is the rate in packets per second from which the next packet is expected during an unannounced wait.
	unannouncedFrom = 200
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
