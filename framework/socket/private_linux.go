package socket

import "syscall"

// makePrivate lets nobody but the owner connect to the file that bind will make of a socket, whatever the umask: on Linux
// it gets the socket's own mode. permit says later who else may.
func makePrivate(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) }
