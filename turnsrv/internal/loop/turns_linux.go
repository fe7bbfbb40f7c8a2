package loop

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

const (
	// sharedBudget is the number of datagrams after which a round stops receiving from a shared socket, and ownBudget the number
	// after which it stops receiving from all other sockets. Both take less than a millisecond.
	sharedBudget = 256
	ownBudget    = 256
	// batchBudget is the intended maximum number of datagrams in a batch.
	batchBudget = 64
	// crowdedAfter is how long a shared socket must have had more datagrams than rounds receive before each client is limited to
	// its share of a round, clientShare datagrams. A call sends only a few datagrams in this time, and a burst of one client ends.
	crowdedAfter = 2 * time.Millisecond
	clientShare  = 32
	// maxErrors is the number of ICMP errors after which the turn of a socket goes on with its datagrams.
	maxErrors = 16
	// retryAfter is how long after an error a loop tries again to receive from a socket.
	retryAfter = 10 * time.Millisecond
)

// turns holds the sockets that may have datagrams. The system reports a socket only when a datagram arrives, so it remains here
// until it is empty.
//
// When the peers of one client send as fast as they can and fill the buffers of its relayed addresses, the packets of other clients
// must not wait. In each round, shared sockets therefore come first, and the others take turns, one batch each, until the budget is
// spent.
type turns struct {
	shared []*watch // get a turn in each round
	own    []*watch // take turns in this order
	spare  []*watch // memory for the next value of shared
	retry  []*watch // receiving from these failed

	retryAlarm *Alarm
}

// Share counts the datagrams that a client has sent to a shared socket in a round. The zero value is ready to use.
type Share struct {
	round uint32 // the lower half of Loop.number
	taken int32
}

// MayTake counts a datagram from a client, and reports whether it is within the client's share of the round. Without a loop, and
// while rounds empty the sockets, shares are not limited. Otherwise most waiting datagrams come from clients that send more than
// could ever be relayed. Dropping these early leaves time for the packets of other clients.
func (l *Loop) MayTake(s *Share) bool {
	if l == nil || !l.crowded {
		return true
	}
	if round := uint32(l.number); s.round != round {
		*s = Share{round: round}
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
		l.crowded = w.fullSince != 0 && now.Sub(l.start)-w.fullSince > crowdedAfter
		packets += l.takeTurn(w, sharedBudget, now)
		shared[i] = nil
	}
	l.crowded = false
	l.turns.spare = shared
	// Sockets that still have datagrams after their turn join the end of the queue, and get their next turn in a later round.
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
	if w.inherited {
		l.settle(w)
	}
	if w.failed {
		packets = l.deliverErrors(w, now)
	}
	for more := true; more && packets < budget && !w.ended; {
		var n int
		var err error
		n, more, err = w.socket.Receive(l.inbox, int(w.batch))
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			// The system is out of memory, or the error is unknown.
			l.turns.retry = append(l.turns.retry, w)
			l.turns.retryAlarm.Set(now.Add(retryAfter))
			return packets
		}
		if more {
			w.batch = uint8(nextBatch(int(w.batch), n))
		}
		l.deliver(w, n, now)
		packets += n
		if !more {
			w.fullSince = 0
			return packets
		}
	}
	if w.fullSince == 0 {
		w.fullSince = now.Sub(l.start)
	}
	l.receiveLater(w)
	return packets
}

// deliverErrors passes the ICMP errors about datagrams of a socket to its receiver, and returns their number. The system reports those
// that exceed maxErrors with another event.
func (l *Loop) deliverErrors(w *watch, now time.Time) (n int) {
	w.failed = false
	r, ok := w.receiver.(ErrorReceiver)
	for ; ok && n < maxErrors && !w.ended; n++ {
		e, more := w.socket.ReceiveError()
		if !more {
			break
		}
		l.guard(func() { r.ReceiveError(e, now) })
	}
	return n
}

// nextBatch returns how many messages to receive with the next call from a socket that has delivered batch messages with the given
// number of datagrams. A message is up to 64 datagrams if the system coalesces them.
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
