//go:build amd64 || arm64

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ErrNotRouted is returned for an address to which packets do not leave this host, such as one of its own.
var ErrNotRouted = errors.New("packets to this address do not leave this host")

const routeMetricMTU = 2 // RTAX_MTU of Linux' rtnetlink.h

// RouteTo returns how packets from source to destination leave this host, and the address that they have as their source. If source
// is invalid or unspecified, the system chooses one. The error is ErrNotRouted, or one of the system.
func RouteTo(destination, source netip.Addr) (route Route, from netip.Addr, err error) {
	destination, source = destination.Unmap(), source.Unmap()
	family := byte(unix.AF_INET6)
	if destination.Is4() {
		family = unix.AF_INET
	}
	request := make([]byte, unix.SizeofRtMsg)
	request[0], request[1] = family, byte(destination.BitLen())
	request = attribute(request, unix.RTA_DST, destination.AsSlice())
	if source.IsValid() && !source.IsUnspecified() {
		request[2] = byte(source.BitLen())
		request = attribute(request, unix.RTA_SRC, source.AsSlice())
		from = source
	}
	found, err := ask(unix.RTM_GETROUTE, 0, request)
	if err != nil {
		return Route{}, netip.Addr{}, fmt.Errorf("route to %v: %w", destination, err)
	}
	for _, m := range found {
		if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg || m.Data[7] != unix.RTN_UNICAST {
			continue
		}
		for kind, value := range attributes(m.Data[unix.SizeofRtMsg:]) {
			switch {
			case kind == unix.RTA_OIF && len(value) == 4:
				route.Interface = int(binary.NativeEndian.Uint32(value))
			case kind == unix.RTA_PREFSRC && !from.IsValid():
				from, _ = netip.AddrFromSlice(value)
			case kind == unix.RTA_METRICS:
				for kind, value := range attributes(value) {
					if kind == routeMetricMTU && len(value) == 4 {
						route.MTU = int(binary.NativeEndian.Uint32(value))
					}
				}
			}
		}
	}
	if route.Interface == 0 || !from.IsValid() {
		return Route{}, netip.Addr{}, fmt.Errorf("route to %v: %w", destination, ErrNotRouted)
	}
	l, err := linkOf(route.Interface)
	if err != nil {
		return Route{}, netip.Addr{}, err
	}
	if route.MTU == 0 || route.MTU > l.mtu {
		route.MTU = l.mtu
	}
	return route, from, nil
}

// networkLink is what the program must know about a network interface.
type networkLink struct {
	name     string
	ethernet bool // its packets begin with an Ethernet header
	mtu      int
}

// linkOf returns a network interface by its index.
func linkOf(index int) (networkLink, error) {
	request := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(request[4:], uint32(index))
	found, err := ask(unix.RTM_GETLINK, 0, request)
	if err != nil {
		return networkLink{}, fmt.Errorf("interface %d: %w", index, err)
	}
	var l networkLink
	for _, m := range found {
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		l.ethernet = binary.NativeEndian.Uint16(m.Data[2:]) == unix.ARPHRD_ETHER
		for kind, value := range attributes(m.Data[unix.SizeofIfInfomsg:]) {
			switch {
			case kind == unix.IFLA_IFNAME:
				l.name = unix.ByteSliceToString(value)
			case kind == unix.IFLA_MTU && len(value) == 4:
				l.mtu = int(binary.NativeEndian.Uint32(value))
			}
		}
	}
	return l, nil
}

// isLocal reports whether packets to addr are delivered on this machine.
func isLocal(addr netip.Addr) bool {
	addr = addr.Unmap()
	family := byte(unix.AF_INET6)
	if addr.Is4() {
		family = unix.AF_INET
	}
	request := make([]byte, unix.SizeofRtMsg)
	request[0], request[1] = family, byte(addr.BitLen())
	found, err := ask(unix.RTM_GETROUTE, 0, attribute(request, unix.RTA_DST, addr.AsSlice()))
	if err != nil {
		return false
	}
	for _, m := range found {
		if m.Header.Type == unix.RTM_NEWROUTE && len(m.Data) >= unix.SizeofRtMsg && m.Data[7] == unix.RTN_LOCAL {
			return true
		}
	}
	return false
}
