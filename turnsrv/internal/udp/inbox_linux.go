package udp

import (
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// Batch is the maximum number of datagrams in an Inbox.
	Batch = 16

	// maxDatagram exceeds the longest payload of a UDP datagram, in bytes.
	maxDatagram = 64 << 10

	// announced is the interval, in calls of Receive, at which one call is made known to the scheduler. If packets arrive so fast
	// that the reader never waits, the monitor must be awake to preempt it.
	announced = 64
)

// Inbox is a buffer for received datagrams. Most of its memory is never touched unless datagrams are long. It is owned by one
// goroutine.
type Inbox struct {
	messages [Batch]message
	places   [Batch]place
	data     [Batch][maxDatagram]byte
	used     int // messages that must be reset before the next call
	calls    int
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
}

// NewInbox returns an empty Inbox.
func NewInbox() *Inbox { return &Inbox{used: Batch} }

// Receive receives up to Batch datagrams from a socket and replaces the previous ones. It returns unix.EAGAIN if none are
// available.
func (in *Inbox) Receive(fd int) (n int, err error) {
	for i := range in.used {
		m, p := &in.messages[i].header, &in.places[i]
		p.iov.Base = &in.data[i][0]
		p.iov.SetLen(maxDatagram)
		m.Name, m.Namelen = (*byte)(unsafe.Pointer(&p.from)), uint32(unsafe.Sizeof(p.from))
		m.Iov = &p.iov
		m.SetIovlen(1)
		m.Control = (*byte)(unsafe.Pointer(&p.control))
		m.SetControllen(int(unsafe.Sizeof(p.control)))
	}
	in.used = 0
	for {
		var r uintptr
		var errno unix.Errno
		if in.calls++; in.calls%announced == 0 {
			r, _, errno = unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.messages)), Batch, 0, 0, 0)
		} else {
			r, _, errno = unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.messages)), Batch, 0, 0, 0)
		}
		switch errno {
		case 0:
			in.used = int(r)
			return in.used, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, errno
		default:
			return 0, os.NewSyscallError("recvmmsg", errno)
		}
	}
}

// Datagram returns datagram i of the last Receive. It is valid until the next Receive. local is the destination address of the
// datagram, or the zero Addr unless TellLocal was called for the socket.
func (in *Inbox) Datagram(i int) (data []byte, from netip.AddrPort, local netip.Addr) {
	m, p := &in.messages[i], &in.places[i]
	return in.data[i][:m.length], addrPort(&p.from), p.control.local(int(m.header.Controllen))
}
