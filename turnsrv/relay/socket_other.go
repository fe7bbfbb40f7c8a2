//go:build !linux

package relay

import (
	"net"
	"net/netip"
)

// sockets opens the sockets of an Allocator.
type sockets struct{}

func (*sockets) listen(network string, addr netip.AddrPort) (socket, error) {
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	return &goroutineSocket{Socket: conn, ipv4: addr.Addr().Is4()}, nil
}

// close does nothing: each socket has its own reader.
func (*sockets) close() error { return nil }
