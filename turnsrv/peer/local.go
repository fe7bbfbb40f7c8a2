package peer

import (
	"fmt"
	"net"
	"net/netip"
)

// LocalAddrs returns the addresses of this machine's interfaces as they are now, for Rules.Own.
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
