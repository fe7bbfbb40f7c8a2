package udp

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	// outboxCount is the maximum number of datagrams in an Outbox. Their indexes fit in an int16.
	outboxCount = 256

	// outboxBytes is the maximum sum of their lengths: enough for outboxCount datagrams of the usual MTU.
	outboxBytes = outboxCount * 1500
)

// Sender is told the result of sending a datagram. It must not use the Outbox during the call.
type Sender interface {
	// Sent is called with the payload given to Outbox.Add and nil if the kernel accepted the datagram. Otherwise err is a
	// syscall.Errno, or net.ErrClosed if the socket was closed.
	Sent(payload int, err error)
}

// Outbox collects datagrams of several sockets and sends those of each socket with few system calls. The datagrams of a socket
// leave in the order in which they were added. Owned by one goroutine.
type Outbox struct {
	data    []byte    // of all letters, outboxBytes
	used    int       // bytes of data
	letters []letter  // in the order in which they were added
	sockets []*Socket // those with letters
	single  bool      // never send batches that the kernel splits
	counts  outboxCounts

	// Arguments of system calls. All have outboxCount elements.
	order    []int32      // indexes in letters of those of a socket
	iovs     []unix.Iovec // of order
	messages []message    // each consists of one element of iovs or more
	lengths  []int        // the number of these elements
	controls []control    // of messages
}

// letter is a datagram in an Outbox.
type letter struct {
	start, length int                   // in Outbox.data
	to            unix.RawSockaddrInet6 // the larger of the two address types
	toLength      uint32
	toIPv4        bool
	class         byte
	local         netip.Addr // the zero Addr if the system chooses
	payload       int
	sender        Sender
	next          int16 // index of the next one of the same socket, or none
}

// none is the index after the last letter.
const none = -1

// pending is the list of a socket's letters.
type pending struct {
	first, last int16 // indexes in Outbox.letters, valid if listed
	listed      bool  // in Outbox.sockets
}

// NewOutbox returns an empty Outbox.
func NewOutbox() *Outbox {
	o := &Outbox{
		data: make([]byte, outboxBytes), letters: make([]letter, 0, outboxCount),
		order: make([]int32, 0, outboxCount), iovs: make([]unix.Iovec, outboxCount), messages: make([]message, outboxCount),
		lengths: make([]int, outboxCount), controls: make([]control, outboxCount),
	}
	for i := range o.messages {
		o.messages[i].header.Control = &o.controls[i].b[0]
	}
	return o
}

// SetSegment sets whether datagrams of one length to one destination may be passed to the kernel together, as one message that it
// splits (UDP_SEGMENT). By default they may. A socket that does not support this sends them one by one.
func (o *Outbox) SetSegment(on bool) { o.single = !on }

// Add adds a copy of b, a datagram to be sent to the address to by s. local is the source address; if it is the zero Addr or
// unspecified, or s is bound to a single address, the system chooses it. class is the traffic class. sender, which may be nil, is told payload and the result
// exactly once: during a flush, or during Add if s cannot send to the address.
func (o *Outbox) Add(s *Socket, b []byte, to netip.AddrPort, local netip.Addr, class byte, payload int, sender Sender) {
	l := letter{length: len(b), local: s.source(local), class: class, payload: payload, sender: sender, next: none}
	length, err := putAddrPort(&l.to, s.ipv4, to)
	if err == nil && len(b) > maxDatagram {
		err = unix.EMSGSIZE // no datagram can hold it
	}
	if err != nil {
		l.sent(err)
		return
	}
	l.toLength, l.toIPv4 = uint32(length), to.Addr().Is4() || to.Addr().Is4In6()
	if len(o.letters) == outboxCount || o.used+len(b) > outboxBytes {
		o.Flush()
	}
	l.start = o.used
	o.used += copy(o.data[o.used:], b)
	i := int16(len(o.letters))
	o.letters = append(o.letters, l)
	switch p := &s.pending; {
	case !p.listed:
		*p = pending{first: i, last: i, listed: true}
		o.sockets = append(o.sockets, s)
	case p.first == none:
		p.first, p.last = i, i
	default:
		o.letters[p.last].next, p.last = i, i
	}
}

// Flush sends all datagrams. It does not block: it drops those for which a socket has no room.
func (o *Outbox) Flush() {
	for _, s := range o.sockets {
		o.FlushSocket(s)
		s.pending.listed = false
	}
	clear(o.sockets)
	o.sockets = o.sockets[:0]
	clear(o.letters) // releases the senders
	o.letters = o.letters[:0]
	o.used = 0
}

// FlushSocket sends the datagrams of s. It must be called before s is closed or an option of s changes.
func (o *Outbox) FlushSocket(s *Socket) {
	if !s.pending.listed {
		return
	}
	o.order = o.order[:0]
	for i := s.pending.first; i != none; i = o.letters[i].next {
		o.order = append(o.order, int32(i))
	}
	s.pending.first = none
	o.counts.datagrams.add(len(o.order))
	if s.fd < 0 {
		o.sent(s, 0, len(o.order), net.ErrClosed)
		return
	}
	o.send(s)
}

// sent reports the result of n letters of s that begin at index i in order, and returns the index after them.
func (o *Outbox) sent(s *Socket, i, n int, err error) int {
	if err == unix.EAGAIN || err == unix.ENOBUFS {
		s.full.Store(true)
	}
	for _, l := range o.order[i : i+n] {
		o.letters[l].sent(err)
	}
	return i + n
}

func (l *letter) sent(err error) {
	if l.sender != nil {
		l.sender.Sent(l.payload, err)
	}
}
