package peer

import (
	"net/netip"
	"os"
	"syscall"
)

// localRoutes reads the routing table "local", rtnetlink(7): the kernel delivers to this machine what it says, whether or not an
// interface has the address. Besides those it holds the anycast addresses of the subnets of a machine that forwards IPv6 (RFC
// 4291 section 2.6.1), the addresses of load balancers that clouds route to a machine, and all of a subnet that is on the
// loopback interface.
func localRoutes() ([]netip.Prefix, error) {
	table, err := syscall.NetlinkRIB(syscall.RTM_GETROUTE, syscall.AF_UNSPEC)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	var prefixes []netip.Prefix
	for _, m := range messages {
		// struct rtmsg: the length of the prefix is byte 1, the table byte 4, the type of the route byte 7.
		if m.Header.Type != syscall.RTM_NEWROUTE || len(m.Data) < syscall.SizeofRtMsg || m.Data[4] != syscall.RT_TABLE_LOCAL {
			continue
		}
		if typ := m.Data[7]; typ != syscall.RTN_LOCAL && typ != syscall.RTN_ANYCAST {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return nil, os.NewSyscallError("netlink", err)
		}
		for _, attr := range attrs {
			if attr.Attr.Type != syscall.RTA_DST {
				continue
			}
			if addr, ok := netip.AddrFromSlice(attr.Value); ok {
				if prefix, err := addr.Prefix(int(m.Data[1])); err == nil {
					prefixes = append(prefixes, prefix)
				}
			}
		}
	}
	return prefixes, nil
}
