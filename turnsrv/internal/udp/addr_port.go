package udp

import (
	"net"
	"net/netip"
)

// AddrPortOf returns the address and port of a, or the zero value if it is not an IP address with a port.
func AddrPortOf(a net.Addr) netip.AddrPort {
	var addr netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		addr = a.AddrPort()
	case *net.TCPAddr:
		addr = a.AddrPort()
	}
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}
