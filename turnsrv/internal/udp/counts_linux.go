package udp

import "sync/atomic"

// counter counts in one goroutine and can be read by others.
type counter struct{ atomic.Uint64 }

// add adds n without an atomic read-modify-write, which a single writer does not require.
func (c *counter) add(n int) { c.Store(c.Load() + uint64(n)) }

type inboxCounts struct{ calls, datagrams, coalesced counter }

// InboxCounts count what an Inbox received.
type InboxCounts struct {
	Calls     uint64 // system calls that returned datagrams
	Datagrams uint64
	Coalesced uint64 // datagrams that the kernel delivered coalesced with others (UDP_GRO)
}

// Counts returns the current counts. Safe for concurrent use.
func (in *Inbox) Counts() InboxCounts {
	c := &in.counts
	return InboxCounts{Calls: c.calls.Load(), Datagrams: c.datagrams.Load(), Coalesced: c.coalesced.Load()}
}

type outboxCounts struct{ calls, datagrams, batches, segmented, refused, withdrawn counter }

// OutboxCounts count what an Outbox sent.
type OutboxCounts struct {
	Calls     uint64 // system calls that send
	Datagrams uint64 // including those that failed
	Batches   uint64 // messages that the kernel split into several datagrams (UDP_SEGMENT)
	Segmented uint64 // datagrams in these batches
	Refused   uint64 // batches that the kernel refused, so that their datagrams were sent one by one
	Withdrawn uint64 // sockets that no longer send batches
}

// Counts returns the current counts. Safe for concurrent use.
func (o *Outbox) Counts() OutboxCounts {
	c := &o.counts
	return OutboxCounts{
		Calls: c.calls.Load(), Datagrams: c.datagrams.Load(), Batches: c.batches.Load(), Segmented: c.segmented.Load(),
		Refused: c.refused.Load(), Withdrawn: c.withdrawn.Load(),
	}
}
