//go:build !linux

package probe

import (
	"errors"
	"net"
)

// dontFragment returns an error: datagrams are fragmented as the system does it.
func dontFragment(net.Conn) error { return errors.ErrUnsupported }
