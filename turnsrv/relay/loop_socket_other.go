//go:build !linux

package relay

import (
	"errors"
	"net/netip"
)

// listenOnLoop returns errors.ErrUnsupported: there are no event loops on this system.
func listenOnLoop(string, netip.AddrPort) (socket, error) { return nil, errors.ErrUnsupported }

// inheritSocket returns errors.ErrUnsupported.
func inheritSocket(int) (socket, netip.AddrPort, error) {
	return nil, netip.AddrPort{}, errors.ErrUnsupported
}
