package generator

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxBatch is how many packets a socket sends or receives in a system call.
	maxBatch = 128
	// maxPacket is larger than the longest packet.
	maxPacket = 2048
)

// batch holds the arguments of sendmmsg(2) and recvmmsg(2).
type batch struct {
	messages [maxBatch]message
	parts    [maxBatch]packet
}

type message struct {
	header unix.Msghdr
	length uint32
}

type packet struct {
	iov     unix.Iovec
	addr    unix.RawSockaddrInet4
	control struct {
		header unix.Cmsghdr
		info   unix.Inet4Pktinfo // our address
		_      [4]byte
	}
	data [maxPacket]byte
}

// reset prepares a message of length bytes.
func (b *batch) reset(i, length int) {
	m, p := &b.messages[i].header, &b.parts[i]
	p.iov.Base = &p.data[0]
	p.iov.SetLen(length)
	m.Name, m.Namelen = (*byte)(unsafe.Pointer(&p.addr)), uint32(unsafe.Sizeof(p.addr))
	m.Iov = &p.iov
	m.SetIovlen(1)
	m.Control = (*byte)(unsafe.Pointer(&p.control))
	m.SetControllen(int(unsafe.Sizeof(p.control)))
}

// transfer calls sendmmsg or recvmmsg for some of the messages.
func (b *batch) transfer(call uintptr, fd, first, end, flags int) (int, unix.Errno) {
	for {
		r, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[first])), uintptr(end-first), uintptr(flags), 0, 0)
		if errno != unix.EINTR {
			return int(r), errno
		}
	}
}
