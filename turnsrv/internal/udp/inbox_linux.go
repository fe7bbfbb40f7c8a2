package udp

import (
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// Batch is the maximum number of messages in an Inbox. Each is one datagram, or several that the kernel coalesced. Larger
	// batches do not reduce the cost: 16, 32, 64 and 128 are within 3 % of each other on loopback.
	Batch = 16

	// maxDatagram exceeds the longest payload of a UDP datagram, in bytes.
	maxDatagram = 64 << 10
)

// Inbox is a buffer for received datagrams. Most of its memory is never touched unless datagrams are long. It is owned by one
// goroutine.
type Inbox struct {
	messages  [Batch]message
	places    [Batch]place
	data      [Batch][maxDatagram]byte
	datagrams []datagram
	used      int // messages that must be reset before the next call
	counts    inboxCounts
}

// message is struct mmsghdr, recvmmsg(2).
type message struct {
	header unix.Msghdr
	length uint32
}

type place struct {
	from    unix.RawSockaddrInet6 // the larger of the two address types
	control control
	iov     unix.Iovec
	local   netip.Addr
	class   byte
}

// datagram is the part of a message's data that is one datagram.
type datagram struct{ message, start, end int32 }

// NewInbox returns an empty Inbox.
func NewInbox() *Inbox { return &Inbox{used: Batch, datagrams: make([]datagram, 0, Batch*maxSegments)} }

// receive implements Socket.Receive.
func (in *Inbox) receive(fd, messages int) (n int, err error) {
	for i := range in.used {
		m, p := &in.messages[i].header, &in.places[i]
		p.iov.Base = &in.data[i][0]
		p.iov.SetLen(maxDatagram)
		m.Name, m.Namelen = (*byte)(unsafe.Pointer(&p.from)), uint32(unsafe.Sizeof(p.from))
		m.Iov = &p.iov
		m.SetIovlen(1)
		m.Control = &p.control.b[0]
		m.SetControllen(controlLen)
	}
	in.used = 0
	in.datagrams = in.datagrams[:0]
	for {
		r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.messages)),
			uintptr(messages), 0, 0, 0)
		switch errno {
		case 0:
			in.used = int(r)
			in.split()
			return len(in.datagrams), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, errno
		default:
			return 0, os.NewSyscallError("recvmmsg", errno)
		}
	}
}

// split finds the datagrams in the messages received.
func (in *Inbox) split() {
	coalesced := 0
	for i := range in.used {
		m, p := &in.messages[i], &in.places[i]
		var segment int
		p.local, p.class, segment = p.control.parse(int(m.header.Controllen))
		before := len(in.datagrams)
		in.datagrams = appendDatagrams(in.datagrams, int32(i), int32(m.length), int32(segment))
		if n := len(in.datagrams) - before; n > 1 {
			coalesced += n
		}
	}
	in.counts.calls.add(1)
	in.counts.datagrams.add(len(in.datagrams))
	in.counts.coalesced.add(coalesced)
}

// appendDatagrams appends the datagrams of a message with the given length. Each has the length segment, except that the last may
// be shorter. If segment is 0, the message is one datagram.
func appendDatagrams(all []datagram, message, length, segment int32) []datagram {
	start := int32(0)
	for ; segment > 0 && segment < length-start; start += segment {
		all = append(all, datagram{message, start, start + segment})
	}
	return append(all, datagram{message, start, length})
}

// Class returns the traffic class of datagram i of the last Receive (DSCP and ECN, RFC 2474 and RFC 3168), if its Socket tells it: see
// TellClass.
func (in *Inbox) Class(i int) byte { return in.places[in.datagrams[i].message].class }

// Datagram returns datagram i of the last Receive. It is valid until the next Receive. local is the destination address of the
// datagram, or the zero Addr unless the socket reports it: see NewSocket.
func (in *Inbox) Datagram(i int) (data []byte, from netip.AddrPort, local netip.Addr) {
	d := in.datagrams[i]
	p := &in.places[d.message]
	return in.data[d.message][d.start:d.end:d.end], addrPort(&p.from), p.local
}
