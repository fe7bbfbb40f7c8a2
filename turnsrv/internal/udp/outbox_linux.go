package udp

import (
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// outboxCount is the maximum number of datagrams in an Outbox.
	outboxCount = 256

	// outboxBytes is the maximum sum of their lengths. It holds outboxCount datagrams of the usual MTU, or some of any length.
	outboxBytes = outboxCount * 1500
)

// Sender is told the result of sending a datagram. It may not use the Outbox in the call.
type Sender interface {
	// Sent is called with the payload given to Outbox.Add and nil if the kernel accepted the datagram. Otherwise err is a
	// syscall.Errno, or net.ErrClosed if the socket was closed.
	Sent(payload int, err error)
}

// Outbox collects datagrams of several sockets and sends those of each socket with few system calls. The datagrams of a socket
// leave in the order in which they were added. Owned by one goroutine.
type Outbox struct {
	data    []byte    // of all datagrams, outboxBytes
	used    int       // bytes of data
	letters []letter  // all datagrams
	sockets []*Socket // those with datagrams, each one once

	// What is passed to sendmmsg(2): one of each for every datagram of a socket.
	messages [outboxCount]message
	sources  [outboxCount]envelope
	batch    [outboxCount]int32 // index in letters of each message
}

// letter is a datagram in an Outbox.
type letter struct {
	start, length int // in Outbox.data
	to            netip.AddrPort
	local         netip.Addr
	payload       int
	sender        Sender
	next          int32 // index of the next one of the same socket, or none
}

// none is the index after the last letter.
const none = -1

// pending is the list of a socket's letters.
type pending struct {
	first, last int32 // indexes in Outbox.letters, valid if listed
	listed      bool  // in Outbox.sockets
}

type envelope struct {
	to      unix.RawSockaddrInet6 // the larger of the two address types
	control control
	iov     unix.Iovec
}

// NewOutbox returns an empty Outbox.
func NewOutbox() *Outbox {
	o := &Outbox{data: make([]byte, outboxBytes), letters: make([]letter, 0, outboxCount)}
	for i := range o.messages {
		m, e := &o.messages[i].header, &o.sources[i]
		m.Name = (*byte)(unsafe.Pointer(&e.to))
		m.Iov = &e.iov
		m.SetIovlen(1)
	}
	return o
}

// Add adds a copy of b, a datagram to be sent to the address to by s. local is the source address; if it is the zero Addr or
// unspecified, or s is bound to a single address, the system chooses it. sender, which may be nil, is told payload and the
// result exactly once: from a flush, or from Add if the Outbox is full and flushes itself.
func (o *Outbox) Add(s *Socket, b []byte, to netip.AddrPort, local netip.Addr, payload int, sender Sender) {
	if len(b) > maxDatagram { // no datagram can hold it
		if sender != nil {
			sender.Sent(payload, unix.EMSGSIZE)
		}
		return
	}
	if len(o.letters) == outboxCount || o.used+len(b) > outboxBytes {
		o.Flush()
	}
	if s.bound {
		local = netip.Addr{}
	}
	i := int32(len(o.letters))
	o.letters = append(o.letters, letter{
		start: o.used, length: len(b), to: to, local: local, payload: payload, sender: sender, next: none,
	})
	o.used += copy(o.data[o.used:], b)
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

// Flush sends all datagrams. It does not block: what a socket has no room for is dropped.
func (o *Outbox) Flush() {
	for i, s := range o.sockets {
		o.FlushSocket(s)
		s.pending.listed = false
		o.sockets[i] = nil
	}
	o.sockets = o.sockets[:0]
	clear(o.letters) // releases the senders
	o.letters = o.letters[:0]
	o.used = 0
}

// FlushSocket sends the datagrams of s, which have to leave before s is closed or an option of s changes.
func (o *Outbox) FlushSocket(s *Socket) {
	if !s.pending.listed {
		return
	}
	n := 0
	for i := s.pending.first; i != none; {
		l := &o.letters[i]
		switch {
		case s.fd < 0:
			l.sent(net.ErrClosed)
		default:
			if err := o.put(n, s, l); err != nil {
				l.sent(err)
				break
			}
			o.batch[n] = i
			n++
		}
		i = l.next
	}
	s.pending.first = none
	if n == 1 {
		o.letters[o.batch[0]].sent(o.sendOne(s))
		return
	}
	o.send(s, n)
}

// put makes message n the letter l of socket s.
func (o *Outbox) put(n int, s *Socket, l *letter) error {
	m, e := &o.messages[n].header, &o.sources[n]
	length, err := putAddrPort(&e.to, s.ipv4, l.to)
	if err != nil {
		return err
	}
	m.Namelen = uint32(length)
	e.iov.Base = unsafe.SliceData(o.data[l.start:])
	e.iov.SetLen(l.length)
	m.Control = nil
	m.SetControllen(0)
	if l.local.IsValid() && !l.local.IsUnspecified() && (!s.ipv4 || l.local.Is4()) {
		m.Control = (*byte)(unsafe.Pointer(&e.control))
		m.SetControllen(e.control.put(s.ipv4, l.local))
	}
	return nil
}

// sendOne sends the first message with the cheapest call.
func (o *Outbox) sendOne(s *Socket) error {
	m, e := &o.messages[0].header, &o.sources[0]
	for retried := false; ; retried = true {
		var errno unix.Errno
		if m.Control == nil {
			_, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(e.iov.Base)), uintptr(e.iov.Len), 0,
				uintptr(unsafe.Pointer(&e.to)), uintptr(m.Namelen))
		} else {
			_, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(m)), 0)
		}
		if errno == 0 {
			return nil
		}
		if retried || !mayBePending(errno) {
			return errno
		}
	}
}

// send sends the first n messages.
func (o *Outbox) send(s *Socket, n int) {
	retried := none
	for i := 0; i < n; {
		// The call stops at the first message that fails, and returns the error only if that is message i.
		r, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&o.messages[i])), uintptr(n-i), 0, 0, 0)
		switch {
		case errno == 0:
			for range r {
				o.letters[o.batch[i]].sent(nil)
				i++
			}
		case errno == unix.EAGAIN: // no room for the others either
			for ; i < n; i++ {
				o.letters[o.batch[i]].sent(errno)
			}
		case retried != i && mayBePending(errno):
			retried = i
		default:
			o.letters[o.batch[i]].sent(errno)
			i++
		}
	}
}

func (l *letter) sent(err error) {
	if l.sender != nil {
		l.sender.Sent(l.payload, err)
	}
}

// mayBePending reports whether errno may be an earlier error that the kernel kept for the next call on the socket, such as an
// ICMP error. That call fails without doing anything, and clears the error.
func mayBePending(errno unix.Errno) bool {
	switch errno {
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EMSGSIZE, unix.EINVAL, unix.EBADF, unix.EPERM:
		return false
	}
	return true
}
