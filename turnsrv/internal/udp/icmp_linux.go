package udp

import (
	"errors"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Messages about datagrams that are too long for the next link: RFC 1191 section 4 and RFC 4443 section 3.2.
const (
	typeUnreachable4      = 3
	codeFragmentationNeed = 4
	typeTooBig6           = 2
)

// KeepErrors is like the function of the same name.
func (s *Socket) KeepErrors(on bool) error { return KeepErrors(s.FD(), s.ipv4, on) }

// ReceiveError is like the function of the same name.
func (s *Socket) ReceiveError() (e ICMP, ok bool) { return ReceiveError(s.FD()) }

// KeepErrors sets whether the kernel keeps ICMP errors about datagrams of the socket fd for ReceiveError. It then also returns each as
// the error of the next call on the socket: see MayBePending. What it keeps shares the memory of received datagrams.
func KeepErrors(fd int, ipv4, on bool) error {
	level, option, value := unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 0
	if ipv4 {
		level, option = unix.IPPROTO_IP, unix.IP_RECVERR
	}
	if on {
		value = 1
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, option, value))
}

// ReceiveError returns the oldest ICMP error that the kernel has kept, and false if there is none. It does not block. Errors of other
// kinds, such as that of a datagram that is too long for an interface of this machine, are discarded.
func ReceiveError(fd int) (e ICMP, ok bool) {
	for {
		var control [256]byte
		_, n, _, from, err := unix.Recvmsg(fd, nil, control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return ICMP{}, false
		}
		if e, ok = parseError(control[:n]); !ok {
			continue
		}
		switch from := from.(type) {
		case *unix.SockaddrInet4:
			e.To = netip.AddrPortFrom(netip.AddrFrom4(from.Addr), uint16(from.Port))
		case *unix.SockaddrInet6:
			e.To = netip.AddrPortFrom(withScope(netip.AddrFrom16(from.Addr).Unmap(), from.ZoneId), uint16(from.Port))
		}
		return e, true
	}
}

// parseError finds the ICMP error in the control messages of an error, ip(7) and ipv6(7).
func parseError(control []byte) (e ICMP, ok bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return ICMP{}, false
	}
	for _, m := range messages {
		v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		var got unix.SockExtendedErr
		if !v4 && !v6 || len(m.Data) < int(unsafe.Sizeof(got)) {
			continue
		}
		got = *(*unix.SockExtendedErr)(unsafe.Pointer(unsafe.SliceData(m.Data)))
		e = ICMP{Type: got.Type, Code: got.Code}
		switch got.Origin {
		case unix.SO_EE_ORIGIN_ICMP:
			if e.Type == typeUnreachable4 && e.Code == codeFragmentationNeed {
				e.MTU = got.Info
			}
			return e, true
		case unix.SO_EE_ORIGIN_ICMP6:
			if e.Type == typeTooBig6 {
				e.MTU = got.Info
			}
			return e, true
		}
	}
	return ICMP{}, false
}
