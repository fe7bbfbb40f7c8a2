package udp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// send sends the letters in order.
func (o *Outbox) send(s *Socket) {
	retried := none    // index in order of a datagram sent again
	single := 0        // the datagrams in order before it are not sent in a batch
	first, end := 0, 0 // the messages that are ready
	for i := 0; i < len(o.order); {
		if first == end {
			first, end = 0, o.fill(s, i, single)
		}
		// The kernel stops at the first message that fails, and returns the error only if it is the first of all.
		n, errno := o.call(s, first, end)
		length := o.lengths[first]
		switch {
		case errno == 0:
			for range n {
				length = o.lengths[first]
				if length > 1 {
					s.segments.accepted()
					o.counts.batches.add(1)
					o.counts.segmented.add(length)
				}
				i = o.sent(s, i, length, nil)
				first++
			}
		case errno == unix.EAGAIN: // there is no room for the others either
			i = o.sent(s, i, len(o.order)-i, errno)
		case retried != i && mayBePending(errno):
			retried = i
		case length > 1 && refusesBatch(errno):
			o.counts.refused.add(1)
			if s.segments.refused(errno) {
				o.counts.withdrawn.add(1)
			}
			single = i + length
			first, end = 0, 0
		default:
			i = o.sent(s, i, length, errno) // all of a batch have one destination, which is what the error is about
			first++
		}
	}
}

// fill makes messages of the letters from index i in order, and returns their number. Letters before index single are not
// sent in a batch.
func (o *Outbox) fill(s *Socket, i, single int) (messages int) {
	for i < len(o.order) {
		n := 1
		if i >= single && !o.single && !s.segments.withdrawn {
			n = batchable(o.letters, o.order[i:])
			if n > 1 && !s.segments.try(s.fd) {
				single, n = i+n, 1
			}
		}
		l := &o.letters[o.order[i]]
		h, c := &o.messages[messages].header, &o.controls[messages]
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&l.to)), l.toLength
		h.Iov = &o.iovs[i]
		h.SetIovlen(n)
		controls := 0
		if l.local.IsValid() {
			controls = c.putLocal(s.ipv4, l.local)
		}
		if n > 1 {
			controls = c.putSegment(controls, l.length)
		}
		h.SetControllen(controls)
		o.lengths[messages] = n
		messages++
		for range n {
			l := &o.letters[o.order[i]]
			o.iovs[i].Base = unsafe.SliceData(o.data[l.start:])
			o.iovs[i].SetLen(l.length)
			i++
		}
	}
	return messages
}

// call passes the messages from first up to end to the kernel with the cheapest call, and returns how many it accepted.
func (o *Outbox) call(s *Socket, first, end int) (accepted int, errno unix.Errno) {
	o.counts.calls.add(1)
	m := &o.messages[first]
	h := &m.header
	switch {
	case end-first > 1:
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(m)), uintptr(end-first), 0, 0, 0)
		return int(n), errno
	case h.Controllen == 0 && h.Iovlen == 1:
		_, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(h.Iov.Base)), uintptr(h.Iov.Len), 0,
			uintptr(unsafe.Pointer(h.Name)), uintptr(h.Namelen))
	default:
		_, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(h)), 0)
	}
	return 1, errno
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
