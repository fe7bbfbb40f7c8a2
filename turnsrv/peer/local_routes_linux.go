package peer

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// localRoutes reads the routing table "local", rtnetlink(7). The kernel delivers the addresses in this table to the machine
// itself, whether or not an interface has them. In addition to interface addresses, the table contains the subnet-router
// anycast addresses of a machine that forwards IPv6 (RFC 4291 section 2.6.1), load balancer addresses that clouds route to a
// machine, and subnets assigned to the loopback interface.
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

// localRoute returns the prefix of a route by which this machine sends to itself. It reports false for any other message.
func localRoute(m *syscall.NetlinkMessage) (prefix netip.Prefix, ok bool, err error) {
	// struct rtmsg: byte 1 is the prefix length, byte 4 the table, byte 7 the type of the route.
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

// dumpAttempts limits how often a table is read again because it has changed during the read.
const dumpAttempts = 5

// dumpLocalTable returns the routes of one family in the table "local". With strict checking, since Linux 4.20, the kernel
// sends no other routes. Older kernels send all routes, of which a router may have a million.
func dumpLocalTable(family byte) (messages []syscall.NetlinkMessage, err error) {
	for range dumpAttempts {
		var interrupted bool
		if messages, interrupted, err = dumpTable(family, unix.RT_TABLE_LOCAL); err != nil || !interrupted {
			return messages, err
		}
	}
	return messages, nil // the table changes constantly: LocalWatch reports further changes
}

// dumpTable requests a table. interrupted is true if the table changed during the read.
func dumpTable(family, table byte) (messages []syscall.NetlinkMessage, interrupted bool, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, false, os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1) // not supported by old kernels
	request := make([]byte, unix.NLMSG_HDRLEN+unix.SizeofRtMsg)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.RTM_GETROUTE)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request[unix.NLMSG_HDRLEN], request[unix.NLMSG_HDRLEN+4] = family, table
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, false, os.NewSyscallError("sendto", err)
	}
	for {
		b := make([]byte, 64<<10) // a new buffer each time, because parsed messages refer to it
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
