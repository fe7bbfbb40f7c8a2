//go:build !linux

package socket

// makePrivate does nothing: only Linux lets a socket have a mode before it has a file.
func makePrivate(uintptr) {}
