//go:build !linux

package socket

// makePrivate does nothing: only on Linux does a socket have a mode before it has a file.
func makePrivate(uintptr) {}
