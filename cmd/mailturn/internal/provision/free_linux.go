package provision

import "golang.org/x/sys/unix"

// free returns the least free space, in bytes, of the places where setup writes.
func (m *Machine) free() uint64 {
	least := ^uint64(0)
	for _, dir := range []string{"/etc", "/var/lib"} {
		var s unix.Statfs_t
		if unix.Statfs(m.path(dir), &s) == nil {
			least = min(least, s.Bavail*uint64(s.Bsize))
		}
	}
	return least
}

// writable reports whether a file can be written: settings of the kernel in a container are on a file system that is read-only.
func writable(path string) bool { return unix.Access(path, unix.W_OK) == nil }
