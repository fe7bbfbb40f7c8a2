//go:build !linux

package turn

import "syscall"

// limitUnsent does nothing: the system's buffers are what they are.
func limitUnsent(syscall.Conn) {}
