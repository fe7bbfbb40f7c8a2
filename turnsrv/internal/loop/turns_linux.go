package loop

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

const (
	// sharedBudget is the number of datagrams after which a round receives no more from a shared socket, and ownBudget the number
	// after which it receives no more from all other sockets together. Both take less than a millisecond.
	sharedBudget = 256
	ownBudget    = 256
	// batchBudget is the number of datagrams that a batch is to have at most.
	batchBudget = 64
	// crowdedAfter is how long a shared socket must have had more datagrams than rounds receive, until each client only gets its
	// share of a round, which is clientShare datagrams. A call sends a few in this time, and bursts of a client pass.
	crowdedAfter = 2 * time.Millisecond
	clientShare  = 32
	// retryAfter is how long after an error a loop tries again to receive from a socket.
	retryAfter = 10 * time.Millisecond
)

// turns are the sockets that may have datagrams. The system reports a socket only when a datagram arrives, so it remains here
// until it is empty.
//
// The peers of one client that send as fast as they can fill the buffers of its relayed addresses, and the packets of others do
// not wait for them: in each round shared sockets come first, and the others take turns, a batch each, until the round is over.
type turns struct {
	shared []*watch // get their turn in each round
	own    []*watch // get it in this order
	spare  []*watch // memory for the next shared
	retry  []*watch // receiving from these failed

	retryAlarm *Alarm
}

// Share is what a client has sent to a shared socket in a round. The zero value is ready to use.
type Share struct {
	round uint64
	taken int
}

// MayTake counts a datagram from a client, and reports whether it is within the client's share of the round. There are no shares
// while rounds empty the sockets, and without a loop. In the other case most of what waits comes from clients that send more than
// they could ever have relayed, and dropping it early leaves time for the packets of others, which come after it.
func (l *Loop) MayTake(s *Share) bool {
	if l == nil || !l.crowded {
		return true
	}
	if s.round != l.number {
		*s = Share{round: l.number}
	}
	s.taken++
	return s.taken <= clientShare
}

// waiting reports whether a socket waits for its turn.
func (t *turns) waiting() bool { return len(t.shared) > 0 || len(t.own) > 0 }

// receiveLater gives a socket a turn.
func (l *Loop) receiveLater(w *watch) {
	switch {
	case w.ended || w.queued:
		return
	case w.shared:
		l.turns.shared = append(l.turns.shared, w)
	default:
		l.turns.own = append(l.turns.own, w)
	}
	w.queued = true
}

// takeTurns receives from the sockets whose turn it is in this round. It returns the number of datagrams.
func (l *Loop) takeTurns(now time.Time) (packets int) {
	shared := l.turns.shared
	l.turns.shared = l.turns.spare[:0]
	l.number++
	for i, w := range shared {
		l.crowded = !w.fullSince.IsZero() && now.Sub(w.fullSince) > crowdedAfter
		packets += l.takeTurn(w, sharedBudget, now)
		shared[i] = nil
	}
	l.crowded = false
	l.turns.spare = shared
	// Sockets that have had their turn join the end, and get the next one in a later round.
	turns, taken, own := len(l.turns.own), 0, 0
	for ; taken < turns && own < ownBudget; taken++ {
		own += l.takeTurn(l.turns.own[taken], 1, now)
	}
	l.turns.own = slices.Delete(l.turns.own, 0, taken)
	return packets + own
}

// takeTurn receives batches of datagrams from a socket until it is empty or has delivered as many as budget.
func (l *Loop) takeTurn(w *watch, budget int, now time.Time) (packets int) {
	w.queued = false
	for more := true; more && packets < budget && !w.ended; {
		var n int
		var err error
		n, more, err = w.socket.Receive(l.inbox, w.batch)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			// The system is out of memory, or the error is unknown.
			l.turns.retry = append(l.turns.retry, w)
			l.turns.retryAlarm.Set(now.Add(retryAfter))
			return packets
		}
		if more {
			w.batch = nextBatch(w.batch, n)
		}
		l.deliver(w, n, now)
		packets += n
		if !more {
			w.fullSince = time.Time{}
			return packets
		}
	}
	if w.fullSince.IsZero() {
		w.fullSince = now
	}
	l.receiveLater(w)
	return packets
}

// nextBatch returns how many messages to receive at once from a socket that has delivered as many as batch, with the given number
// of datagrams. A message is up to 64 datagrams if the system coalesces them.
func nextBatch(batch, datagrams int) int {
	return min(max(batch*batchBudget/datagrams, 1), udp.Batch)
}

// receiveFailed gives a turn to the sockets from which receiving failed.
func (l *Loop) receiveFailed(time.Time) {
	for _, w := range l.turns.retry {
		l.receiveLater(w)
	}
	l.turns.retry = nil
}
