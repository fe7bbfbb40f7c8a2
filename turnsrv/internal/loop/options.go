package loop

import "time"

// MaxGather is the maximum time for which a loop waits after a round for more packets.
const MaxGather = 250 * time.Microsecond

// Options configures a Loop.
type Options struct {
	// Gather is how long the loop waits after a round under load, so that more packets arrive and are processed together. It waits
	// only while packets arrive so fast that this saves time. Zero means that it never waits.
	Gather time.Duration
	// Unannounced makes the loop wait for packets with system calls that bypass Go's scheduler. Such a wait occupies one of the
	// runtime's processors (GOMAXPROCS), so there must be more of them than threads of loops. It lasts at most 10 ms.
	Unannounced bool
	// Segment and Coalesce use UDP_SEGMENT and UDP_GRO, udp(7), if the system supports them.
	Segment, Coalesce bool
	// Panicked is called on the goroutine of the loop with the value of a panic in one of its receivers. The loop then continues.
	Panicked func(value any, stack []byte)
}

// Counts counts what a loop has done. Values only increase.
type Counts struct {
	Rounds     uint64        // rounds that had something to do
	Packets    uint64        // datagrams received or passed by other loops, and events of other descriptors
	Gathers    uint64        // waits for more packets
	Gathered   uint64        // packets available after such a wait
	GatherTime time.Duration // total duration of such waits
	Coalesced  uint64        // datagrams that the system delivered coalesced with others (UDP_GRO)
	Segmented  uint64        // datagrams that were passed to the system together with others (UDP_SEGMENT)
	Withdrawn  uint64        // sockets for which the system does not support UDP_SEGMENT
	Panics     uint64        // panics that the loop survived
}

// Add adds the counts of another loop.
func (c *Counts) Add(other Counts) {
	c.Rounds += other.Rounds
	c.Packets += other.Packets
	c.Gathers += other.Gathers
	c.Gathered += other.Gathered
	c.GatherTime += other.GatherTime
	c.Coalesced += other.Coalesced
	c.Segmented += other.Segmented
	c.Withdrawn += other.Withdrawn
	c.Panics += other.Panics
}
