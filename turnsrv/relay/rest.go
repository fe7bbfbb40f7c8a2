package relay

import (
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Rest are ports of an earlier process, to which peers that do not know of its end may still send. They should not get to another
// client.
type Rest struct {
	Ports map[stun.Family][]uint16
	// Until is when the ports can be used again. Before, they are used only if no other port is free.
	Until time.Time
	// Never is when that begins. Before, Allocate returns ErrNoPort instead.
	Never time.Time
}

// resting returns a function that reports whether a port of the family rests, or nil if none does.
func (r Rest) resting(id stun.Family, now time.Time) func(port uint16) bool {
	if len(r.Ports[id]) == 0 || !now.Before(r.Until) {
		return nil
	}
	return func(port uint16) bool {
		_, found := slices.BinarySearch(r.Ports[id], port)
		return found
	}
}
