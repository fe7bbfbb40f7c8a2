package udp

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Send sends a datagram immediately, without blocking. local is the source address, as in Outbox.Add. The error is a syscall.Errno.
// Safe for concurrent use, but not with Close.
func (s *Socket) Send(b []byte, to netip.AddrPort, local netip.Addr) error {
	var sa unix.RawSockaddrInet6
	length, err := putAddrPort(&sa, s.ipv4, to)
	if err != nil {
		return err
	}
	local = s.source(local)
	errno := s.sendOnce(b, &sa, length, local)
	if errno != 0 && MayBePending(errno) {
		errno = s.sendOnce(b, &sa, length, local)
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// sendOnce implements Send with the cheapest system call.
func (s *Socket) sendOnce(b []byte, to *unix.RawSockaddrInet6, length uintptr, local netip.Addr) (errno unix.Errno) {
	if !local.IsValid() {
		_, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			0, uintptr(unsafe.Pointer(to)), length)
		return errno
	}
	var c control
	iov := unix.Iovec{Base: unsafe.SliceData(b)}
	iov.SetLen(len(b))
	header := unix.Msghdr{Name: (*byte)(unsafe.Pointer(to)), Namelen: uint32(length), Iov: &iov, Control: &c.b[0]}
	header.SetIovlen(1)
	header.SetControllen(c.putLocal(s.ipv4, local))
	_, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&header)), 0)
	return errno
}

// source returns the source address to set for a datagram from local, or the zero Addr if the system chooses it.
func (s *Socket) source(local netip.Addr) netip.Addr {
	if s.bound || local.IsUnspecified() || s.ipv4 && !local.Is4() {
		return netip.Addr{}
	}
	return local
}

// MayBePending reports whether errno may be an earlier error that the kernel kept for the next call on the socket, such as an ICMP
// error. That call then fails without effect and clears the error.
func MayBePending(errno unix.Errno) bool {
	switch errno {
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EINVAL, unix.EBADF, unix.EPERM:
		return false
	}
	return true
}
