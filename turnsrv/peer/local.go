package peer

import (
	"fmt"
	"net"
	"net/netip"
)

// LocalAddrs returns the current addresses of this machine's interfaces.
func LocalAddrs() ([]netip.Addr, error) {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	var addrs []netip.Addr
	for _, i := range interfaces {
		if network, ok := i.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(network.IP); ok {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	return addrs, nil
}

// LocalPrefixes returns the current prefixes that this machine routes to itself, for Rules.Local: the addresses of its
// interfaces and, on Linux, all other local routes.
func LocalPrefixes() ([]netip.Prefix, error) {
	addrs, err := LocalAddrs()
	if err != nil {
		return nil, err
	}
	prefixes, err := localRoutes()
	if err != nil {
		return nil, fmt.Errorf("list the local routes of this machine: %w", err)
	}
	for _, addr := range addrs {
		prefixes = append(prefixes, netip.PrefixFrom(addr, addr.BitLen()))
	}
	return prefixes, nil
}
