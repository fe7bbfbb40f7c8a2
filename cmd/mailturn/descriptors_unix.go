//go:build unix

package main

import (
	"math"
	"syscall"
)

// openFilesLimit returns how many descriptors this process may open: RLIMIT_NOFILE, which Go raises to the hard limit when the
// process starts. It reports false where there is no such limit.
func openFilesLimit() (limit int, ok bool) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil || r.Cur > math.MaxInt32 {
		return 0, false
	}
	return int(r.Cur), true
}
