//go:build amd64 || arm64

package kernel

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Numbers of Linux' nfnetlink.h and nf_tables.h.
const (
	nftablesSubsystem = 10
	getChain          = 4
	newChain          = 3
	chainUse          = 6
	chainType         = 7
)

// HasNAT reports whether netfilter has rules of NAT in this network namespace. It cannot tell whether they concern the packets of
// calls. It requires CAP_NET_ADMIN.
func HasNAT() (bool, error) {
	// NAT requires this. Asking for rules would make the system load the modules for them.
	if _, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_count"); err != nil {
		return false, nil
	}
	if tables, err := os.ReadFile("/proc/net/ip_tables_names"); err == nil && slices.Contains(strings.Fields(string(tables)), "nat") {
		return true, nil
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request := binary.NativeEndian.AppendUint32(nil, unix.SizeofNlMsghdr+4)
	request = binary.NativeEndian.AppendUint16(request, nftablesSubsystem<<8|getChain)
	request = binary.NativeEndian.AppendUint16(request, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request = append(request, make([]byte, 8+4)...) // sequence number, sender; all families, version, no resource
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, os.NewSyscallError("sendto", err)
	}
	b := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return false, os.NewSyscallError("recvfrom", err)
		}
		messages, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return false, err
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == unix.NLMSG_DONE:
				return false, nil
			case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
				code := syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
				if errors.Is(code, unix.EOPNOTSUPP) || errors.Is(code, unix.EINVAL) { // there is no nftables
					return false, nil
				}
				return false, code
			case m.Header.Type == nftablesSubsystem<<8|newChain && len(m.Data) >= 4 && natChain(m.Data[4:]):
				return true, nil
			}
		}
	}
}

// natChain reports whether the attributes are those of a chain of NAT with rules.
func natChain(b []byte) bool {
	nat, used := false, false
	for kind, value := range attributes(b) {
		switch {
		case kind == chainType:
			nat = unix.ByteSliceToString(value) == "nat"
		case kind == chainUse && len(value) == 4:
			used = binary.BigEndian.Uint32(value) > 0
		}
	}
	return nat && used
}
