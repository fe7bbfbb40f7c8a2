//go:build !linux

package daemon

import "syscall"

// endWithParent does nothing: the system has no signal for that.
func endWithParent(*syscall.SysProcAttr) {}
