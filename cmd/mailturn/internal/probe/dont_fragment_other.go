//go:build !linux

package probe

import (
	"errors"
	"net"
)

// dontFragment returns an error: the system decides about fragmentation.
func dontFragment(net.Conn) error { return errors.ErrUnsupported }
