package udp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// send sends the letters in order.
func (o *Outbox) send(s *Socket) {
	end := o.fill(s)
	i := 0 // index in order of the first letter of the next message
	for next := 0; next < end; {
		// The kernel stops at the first message that fails, and returns the error only if it is the first of all.
		n, errno := o.call(s, o.messages[next:end])
		switch {
		case errno == 0:
			for range n {
				letters := o.lengths[next]
				if letters > 1 {
					s.segments.accepted()
					o.counts.batches.add(1)
					o.counts.segmented.add(letters)
				}
				i = o.sent(s, i, letters, nil)
				next++
			}
		case errno == unix.EAGAIN: // there is no room for the others either
			o.sent(s, i, len(o.order)-i, errno)
			return
		case o.lengths[next] > 1 && refusesBatch(errno):
			o.counts.refused.add(1)
			if s.segments.refused(errno) {
				o.counts.withdrawn.add(1)
			}
			i = o.sendSingly(s, next, i)
			next++
		default:
			i = o.sent(s, i, o.lengths[next], errno) // the error concerns the destination, which all letters of a batch share
			next++
		}
	}
}

// sendSingly sends the letters of message m, which begin at index i in order, one by one. It returns the index after them.
func (o *Outbox) sendSingly(s *Socket, m, i int) int {
	for range o.lengths[m] {
		o.put(s, m, i, 1)
		var err error
		if _, errno := o.call(s, o.messages[m:m+1]); errno != 0 {
			err = errno
		}
		i = o.sent(s, i, 1, err)
	}
	return i
}

// fill makes messages from all letters in order, and returns their number.
func (o *Outbox) fill(s *Socket) (messages int) {
	for i := 0; i < len(o.order); {
		letters, each := 1, 1
		if !o.single && !s.segments.withdrawn {
			letters = batchable(o.letters, o.order[i:])
			if letters > 1 && s.segments.try(s.FD()) {
				each = letters
			}
		}
		for range letters / each {
			o.put(s, messages, i, each)
			o.lengths[messages] = each
			messages++
			i += each
		}
	}
	return messages
}

// put makes message m from the n letters that begin at index i in order. If there are several, the kernel splits the message.
func (o *Outbox) put(s *Socket, m, i, n int) {
	h, c, l := &o.messages[m].header, &o.controls[m], &o.letters[o.order[i]]
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&l.to)), l.toLength
	h.Iov = &o.iovs[i]
	h.SetIovlen(n)
	controls := 0
	if l.local.IsValid() {
		controls = c.putLocal(s.ipv4, l.local)
	}
	if l.class != 0 {
		controls = c.putClass(controls, l.toIPv4, l.class)
	}
	if n > 1 {
		controls = c.putSegment(controls, l.length)
	}
	h.SetControllen(controls)
	for j := i; j < i+n; j++ {
		l := &o.letters[o.order[j]]
		o.iovs[j].Base = unsafe.SliceData(o.data[l.start:])
		o.iovs[j].SetLen(l.length)
	}
}

// call passes messages to the kernel and returns how many it accepted. errno is the error of the first message. If it may concern
// an earlier datagram, call tries once more.
func (o *Outbox) call(s *Socket, messages []message) (accepted int, errno unix.Errno) {
	accepted, errno = o.callOnce(s, messages)
	if errno != 0 && MayBePending(errno) {
		accepted, errno = o.callOnce(s, messages)
	}
	return accepted, errno
}

// callOnce implements call with the cheapest system call.
func (o *Outbox) callOnce(s *Socket, messages []message) (accepted int, errno unix.Errno) {
	o.counts.calls.add(1)
	first := unsafe.Pointer(unsafe.SliceData(messages))
	h := &messages[0].header
	switch {
	case len(messages) > 1:
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(first), uintptr(len(messages)), 0, 0, 0)
		return int(n), errno
	case h.Controllen == 0 && h.Iovlen == 1:
		_, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(h.Iov.Base)), uintptr(h.Iov.Len), 0,
			uintptr(unsafe.Pointer(h.Name)), uintptr(h.Namelen))
	default:
		_, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(first), 0)
	}
	return 1, errno
}
