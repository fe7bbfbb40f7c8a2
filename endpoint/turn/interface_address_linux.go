package turn

import (
	"encoding/binary"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// interfaceAddresses reads the IPv6 addresses of this machine, rtnetlink(7).
func interfaceAddresses() ([]interfaceAddress, error) {
	table, err := syscall.NetlinkRIB(syscall.RTM_GETADDR, syscall.AF_INET6)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	var addresses []interfaceAddress
	for _, m := range messages {
		// struct ifaddrmsg: family, length of the prefix, flags and scope are a byte each, then comes the interface.
		if m.Header.Type != syscall.RTM_NEWADDR || len(m.Data) < syscall.SizeofIfAddrmsg || m.Data[0] != syscall.AF_INET6 {
			continue
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return nil, os.NewSyscallError("netlink", err)
		}
		var addr netip.Addr
		flags := uint32(m.Data[2])
		for _, attribute := range attributes {
			switch attribute.Attr.Type {
			case syscall.IFA_ADDRESS:
				if !addr.IsValid() {
					addr, _ = netip.AddrFromSlice(attribute.Value)
				}
			case syscall.IFA_LOCAL: // where IFA_ADDRESS is that of the other end
				addr, _ = netip.AddrFromSlice(attribute.Value)
			case unix.IFA_FLAGS: // all of them, of which a byte holds the first eight
				if len(attribute.Value) >= 4 {
					flags = binary.NativeEndian.Uint32(attribute.Value)
				}
			}
		}
		if !addr.IsValid() {
			continue
		}
		addresses = append(addresses, interfaceAddress{
			prefix:    netip.PrefixFrom(addr, int(m.Data[1])),
			link:      binary.NativeEndian.Uint32(m.Data[4:8]),
			temporary: flags&unix.IFA_F_TEMPORARY != 0,
			usable:    flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED|unix.IFA_F_DEPRECATED) == 0 && m.Data[3] == unix.RT_SCOPE_UNIVERSE,
		})
	}
	return addresses, nil
}
