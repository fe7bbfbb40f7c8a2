//go:build amd64 || arm64

package kernel

import (
	"encoding/binary"
	"iter"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ask sends a request to rtnetlink and returns the answer, which is empty if it is only an acknowledgement. It is that of a dump if
// flags has unix.NLM_F_DUMP. The error is that of the kernel.
func ask(kind uint16, flags uint16, body []byte) ([]syscall.NetlinkMessage, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	request = binary.NativeEndian.AppendUint16(request, kind)
	request = binary.NativeEndian.AppendUint16(request, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	request = append(request, make([]byte, 8)...) // sequence number and sender: there is one request for each socket
	request = append(request, body...)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	var answer []syscall.NetlinkMessage
	for {
		b := make([]byte, 16<<10)
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return nil, os.NewSyscallError("recvfrom", err)
		}
		messages, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if m.Header.Type == unix.NLMSG_DONE {
				return answer, nil
			}
			if m.Header.Type != unix.NLMSG_ERROR {
				answer = append(answer, m)
				continue
			}
			if len(m.Data) < 4 {
				return nil, unix.EBADMSG
			}
			if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
				return nil, syscall.Errno(-code)
			}
			return answer, nil
		}
	}
}

// attribute appends a netlink attribute to b.
func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&(unix.NLMSG_ALIGNTO-1))...)
}

// attributes yields the netlink attributes in b.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			length := int(binary.NativeEndian.Uint16(b))
			if length < unix.SizeofRtAttr || length > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED, b[unix.SizeofRtAttr:length]) {
				return
			}
			b = b[min((length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
		}
	}
}
