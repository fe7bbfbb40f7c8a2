//go:build !linux

package turn

import "syscall"

// limitUnsent does nothing: this system has no such option.
func limitUnsent(syscall.Conn) {}
