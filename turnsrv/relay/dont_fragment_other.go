//go:build !linux

package relay

import "errors"

// CanDontFragment reports whether the DONT-FRAGMENT attribute is supported, RFC 8656 section 14.9.
const CanDontFragment = false

// setDontFragment makes the kernel set the DF bit and reject packets that exceed the path MTU, or allow fragmentation.
func setDontFragment(Socket, bool, bool) error { return errors.ErrUnsupported }
