//go:build !linux

package relay

import (
	"errors"
	"net"
)

// CanDontFragment reports whether the DONT-FRAGMENT attribute can be honoured, RFC 8656 section 14.9.
const CanDontFragment = false

// setDontFragment makes the kernel set the DF bit and refuse what does not fit the path, or neither.
func setDontFragment(*net.UDPConn, bool, bool) error { return errors.ErrUnsupported }
