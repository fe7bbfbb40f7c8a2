package udp

import (
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// Batch is how many datagrams an Inbox holds.
	Batch = 16

	// maxDatagram is more than the longest payload of a UDP datagram, in bytes.
	maxDatagram = 64 << 10

	// announced is how many calls of an Inbox it takes for one that the scheduler hears of. When packets come so fast that the
	// reader never waits, the monitor has to be awake to give others their turn.
	announced = 64
)

// Inbox is where datagrams are received. Much of its memory is never touched, unless they are long. It belongs to one goroutine.
type Inbox struct {
	messages [Batch]message
	places   [Batch]place
	data     [Batch][maxDatagram]byte
	used     int // messages that have to be prepared again
	calls    int
}

// message is struct mmsghdr, recvmmsg(2).
type message struct {
	header unix.Msghdr
	length uint32
}

type place struct {
	from    unix.RawSockaddrInet6 // the longer one
	control control
	iov     unix.Iovec
}

// NewInbox returns an empty Inbox.
func NewInbox() *Inbox { return &Inbox{used: Batch} }

// Receive receives what has come to a socket, up to Batch datagrams, instead of what it received before. The error is
// unix.EAGAIN if there is nothing.
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

// Datagram returns one of those that Receive has received, valid until the next call of that. local is the address of this machine
// that it came to, or the zero Addr unless TellLocal was called for the socket.
func (in *Inbox) Datagram(i int) (data []byte, from netip.AddrPort, local netip.Addr) {
	m, p := &in.messages[i], &in.places[i]
	return in.data[i][:m.length], addrPort(&p.from), p.control.local(int(m.header.Controllen))
}
