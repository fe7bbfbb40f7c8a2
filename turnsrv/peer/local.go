package peer

import (
	"fmt"
	"net"
	"net/netip"
)

// LocalAddrs returns the addresses that are this machine's as they are now, for Rules.Own: those of its interfaces, and the
// anycast address of the routers of each subnet, which is that of a machine that forwards.
func LocalAddrs() ([]netip.Addr, error) {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	return localAddrs(interfaces), nil
}

func localAddrs(interfaces []net.Addr) (addrs []netip.Addr) {
	for _, i := range interfaces {
		network, ok := i.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(network.IP)
		if !ok {
			continue
		}
		addr = addr.Unmap()
		addrs = append(addrs, addr)
		// RFC 4291 section 2.6.1; RFC 6164 has links of two addresses without. Where IPv6 is forwarded, Linux takes what is sent to
		// it for its own, and nothing lists it among the addresses of an interface.
		if bits, _ := network.Mask.Size(); addr.Is6() && bits < 127 {
			addrs = append(addrs, netip.PrefixFrom(addr, bits).Masked().Addr())
		}
	}
	return addrs
}
