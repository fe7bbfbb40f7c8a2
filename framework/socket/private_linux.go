package socket

import "syscall"

// makePrivate lets nobody but the owner connect to the file that bind will create for a socket, whatever the umask: on Linux the
// file gets the socket's own mode. permit allows others later.
func makePrivate(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) }
