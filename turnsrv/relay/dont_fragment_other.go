//go:build !linux

package relay

import "errors"

// CanDontFragment reports whether the DONT-FRAGMENT attribute can be honoured, RFC 8656 section 14.9.
const CanDontFragment = false

// setDontFragment makes the kernel set the DF bit and refuse what does not fit the path, or neither.
func setDontFragment(Socket, bool, bool) error { return errors.ErrUnsupported }
