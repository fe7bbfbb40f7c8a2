package peer

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// localRoutes reads the routing table "local", rtnetlink(7): the kernel delivers to this machine what it says, whether or not an
// interface has the address. Besides those it holds the anycast addresses of the subnets of a machine that forwards IPv6 (RFC
// 4291 section 2.6.1), the addresses of load balancers that clouds route to a machine, and all of a subnet that is on the
// loopback interface.
func localRoutes() ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		messages, err := dumpLocalTable(family)
		if err != nil {
			return nil, err
		}
		for i := range messages {
			prefix, ok, err := localRoute(&messages[i])
			if err != nil {
				return nil, err
			}
			if ok {
				prefixes = append(prefixes, prefix)
			}
		}
	}
	return prefixes, nil
}

// localRoute returns the prefix of a message about a route by which this machine sends to itself, and false for any other.
func localRoute(m *syscall.NetlinkMessage) (prefix netip.Prefix, ok bool, err error) {
	// struct rtmsg: the length of the prefix is byte 1, the table byte 4, the type of the route byte 7.
	if m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE ||
		len(m.Data) < unix.SizeofRtMsg || m.Data[4] != unix.RT_TABLE_LOCAL {
		return netip.Prefix{}, false, nil
	}
	if typ := m.Data[7]; typ != unix.RTN_LOCAL && typ != unix.RTN_ANYCAST {
		return netip.Prefix{}, false, nil
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return netip.Prefix{}, false, os.NewSyscallError("netlink", err)
	}
	for _, attr := range attrs {
		if attr.Attr.Type != unix.RTA_DST {
			continue
		}
		if addr, ok := netip.AddrFromSlice(attr.Value); ok {
			prefix, err := addr.Prefix(int(m.Data[1]))
			return prefix, err == nil, nil
		}
	}
	return netip.Prefix{}, false, nil
}

// dumpAttempts bounds how often a table is read again that has changed meanwhile.
const dumpAttempts = 5

// dumpLocalTable returns the routes of one family in the table "local". Since Linux 4.20 the kernel sends no others if it is asked
// strictly; before, it sends all that there are, which a router may have a million of.
func dumpLocalTable(family byte) (messages []syscall.NetlinkMessage, err error) {
	for range dumpAttempts {
		var interrupted bool
		if messages, interrupted, err = dumpTable(family, unix.RT_TABLE_LOCAL); err != nil || !interrupted {
			return messages, err
		}
	}
	return messages, nil // a machine that changes all the time: the watch brings the rest
}

// dumpTable asks for a table. interrupted says that it has changed while it was read.
func dumpTable(family, table byte) (messages []syscall.NetlinkMessage, interrupted bool, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, false, os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1) // an old kernel has none
	request := make([]byte, unix.NLMSG_HDRLEN+unix.SizeofRtMsg)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.RTM_GETROUTE)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request[unix.NLMSG_HDRLEN], request[unix.NLMSG_HDRLEN+4] = family, table
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, false, os.NewSyscallError("sendto", err)
	}
	for {
		b := make([]byte, 64<<10) // what is parsed refers to it
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return nil, false, os.NewSyscallError("recvfrom", err)
		}
		batch, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return nil, false, os.NewSyscallError("netlink", err)
		}
		for _, m := range batch {
			interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return messages, interrupted, nil
			case unix.NLMSG_ERROR:
				errno := unix.EIO
				if len(m.Data) >= 4 {
					errno = unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
				}
				if errno == unix.ENOENT || errno == unix.EAFNOSUPPORT || errno == unix.EOPNOTSUPP { // no such table: a kernel without IPv6
					return nil, false, nil
				}
				return nil, false, os.NewSyscallError("netlink", errno)
			}
			messages = append(messages, m)
		}
	}
}
