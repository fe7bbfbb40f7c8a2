package loop

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

const (
	// maxPassed is the maximum memory in bytes of the datagrams from other goroutines that wait for a loop.
	maxPassed = 4 << 20
	// passedOverhead is the memory in bytes that a datagram takes in addition to its data.
	passedOverhead = 64
)

// Receiver receives datagrams on the goroutine of a loop. It must not block. data is valid during the call. local is the
// address that the datagram was sent to, or the zero Addr if it is unknown.
type Receiver interface {
	Receive(data []byte, from netip.AddrPort, local netip.Addr, now time.Time)
}

// ErrorReceiver is a Receiver that is also called for ICMP errors about datagrams of its socket.
type ErrorReceiver interface {
	Receiver
	ReceiveError(e udp.ICMP, now time.Time)
}

// mailbox holds the datagrams and calls that other goroutines pass to a loop.
type mailbox struct {
	passed atomic.Pointer[batch] // newest first
	held   atomic.Int64          // memory of the datagrams in passed, and of those that have been admitted

	mu     sync.Mutex // guards calls
	calls  []func()
	posted atomic.Bool // calls is not empty
}

// batch holds datagrams that were passed together.
type batch struct {
	older     *batch
	datagrams []datagram
	data      []byte // of all datagrams, one after the other
}

type datagram struct {
	to     Receiver
	from   netip.AddrPort
	class  byte
	length int
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) add(to Receiver, from netip.AddrPort, class byte, data []byte) {
	b.datagrams = append(b.datagrams, datagram{to, from, class, len(data)})
	b.data = append(b.data, data...)
}

// admit reports whether there is room for one more datagram, and reserves it.
func (m *mailbox) admit(size int) bool {
	if m.held.Add(int64(size+passedOverhead)) > maxPassed {
		m.held.Add(int64(-size - passedOverhead))
		return false
	}
	return true
}

// put adds a batch, whose datagrams have been admitted.
func (m *mailbox) put(b *batch) {
	for {
		b.older = m.passed.Load()
		if m.passed.CompareAndSwap(b.older, b) {
			return
		}
	}
}

// empty reports whether there is nothing in the mailbox.
func (m *mailbox) empty() bool { return m.passed.Load() == nil && !m.posted.Load() }

// deliver calls give with the passed datagrams, in order, and returns their number. give must not panic.
func (m *mailbox) deliver(give func(to Receiver, data []byte, from netip.AddrPort, class byte, now time.Time), now time.Time) (n int) {
	if m.passed.Load() == nil {
		return 0
	}
	var oldest *batch
	for b := m.passed.Swap(nil); b != nil; {
		b.older, oldest, b = oldest, b, b.older
	}
	for b := oldest; b != nil; {
		data := b.data
		for _, d := range b.datagrams {
			give(d.to, data[:d.length], d.from, d.class, now)
			data = data[d.length:]
		}
		n += len(b.datagrams)
		m.held.Add(int64(-len(b.data) - passedOverhead*len(b.datagrams)))
		next := b.older
		clear(b.datagrams)
		b.older, b.datagrams, b.data = nil, b.datagrams[:0], b.data[:0]
		batches.Put(b)
		b = next
	}
	return n
}

// post adds a call.
func (m *mailbox) post(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, f)
	m.posted.Store(true)
}

// take removes and returns the posted calls. Datagrams that were passed before any of these calls was posted are already in passed.
func (m *mailbox) take() []func() {
	if !m.posted.Load() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := m.calls
	m.calls = nil
	m.posted.Store(false)
	return calls
}
