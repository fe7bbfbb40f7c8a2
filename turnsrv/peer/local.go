package peer

import (
	"fmt"
	"net"
	"net/netip"
)

// LocalAddrs returns the addresses of this machine's interfaces as they are now.
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

// LocalPrefixes returns what this machine sends to itself, as it is now, for Rules.Local: the addresses of its interfaces, and on
// Linux whatever else it is told to take for its own.
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
