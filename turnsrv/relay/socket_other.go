//go:build !linux

package relay

import "net/netip"

// sockets opens the sockets of an Allocator.
type sockets struct{}

func (*sockets) listen(network string, addr netip.AddrPort) (socket, error) {
	return goroutineSockets(listenUDP)(network, addr)
}

// close does nothing: each socket has its own reader.
func (*sockets) close() error { return nil }
