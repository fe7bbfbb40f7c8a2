package udp

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Send sends a datagram through an IPv4 or IPv6 socket without blocking. local is the source address; if it is the zero Addr or
// unspecified, the system chooses it.
func Send(fd int, ipv4 bool, b []byte, to netip.AddrPort, local netip.Addr) error {
	var sa unix.RawSockaddrInet6
	length, err := putAddrPort(&sa, ipv4, to)
	if err != nil {
		return err
	}
	var errno unix.Errno
	if !local.IsValid() || local.IsUnspecified() || ipv4 && !local.Is4() {
		_, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			0, uintptr(unsafe.Pointer(&sa)), length)
	} else {
		var c control
		iov := unix.Iovec{Base: unsafe.SliceData(b)}
		iov.SetLen(len(b))
		header := unix.Msghdr{
			Name: (*byte)(unsafe.Pointer(&sa)), Namelen: uint32(length), Iov: &iov, Control: &c.b[0],
		}
		header.SetIovlen(1)
		header.SetControllen(c.putLocal(ipv4, local))
		_, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&header)), 0)
	}
	if errno != 0 {
		return errno
	}
	return nil
}
