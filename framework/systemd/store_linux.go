package systemd

import (
	"os"

	"golang.org/x/sys/unix"
)

// StoreFor has the manager keep duplicates of listening TCP sockets for a service, as if its process pid had stored them. From its
// next start, Listeners.Listen returns them for HOST:PORT. Only root can speak for another process, as systemd-notify --pid does; the
// manager ignores what others send, and says nothing about it.
func (m Manager) StoreFor(pid int, hostPort string, sockets ...*os.File) error {
	var descriptors []int
	for _, socket := range sockets {
		raw, err := socket.SyscallConn()
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { descriptors = append(descriptors, int(fd)) }); err != nil {
			return err
		}
	}
	control := unix.UnixCredentials(&unix.Ucred{Pid: int32(pid), Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())})
	control = append(control, unix.UnixRights(descriptors...)...)
	return m.send(control, []string{"FDSTORE=1", "FDNAME=" + nameOf(hostPort)})
}
