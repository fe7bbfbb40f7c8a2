//go:build !linux

package provision

// free returns the maximum, because the free space is unknown on this system.
func (*Machine) free() uint64 { return ^uint64(0) }

// writable is for the settings of Linux.
func writable(string) bool { return false }
