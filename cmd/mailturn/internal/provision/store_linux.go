package provision

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/framework/systemd"
)

// notifySocket is where the service manager listens, unless it tells its services otherwise.
const notifySocket = "/run/systemd/notify"

// storeSockets is Machine.Store of this machine. It needs Linux 5.6, and root.
func storeSockets(pid int, sockets map[string][]Descriptor) error {
	files := make(map[string][]*os.File)
	defer func() {
		for _, duplicates := range files {
			for _, file := range duplicates {
				file.Close()
			}
		}
	}()
	for hostPort, descriptors := range sockets {
		for _, d := range descriptors {
			file, err := duplicate(d)
			if err != nil {
				return err
			}
			files[hostPort] = append(files[hostPort], file)
		}
	}
	manager := systemd.Manager{Socket: notifySocket}
	for hostPort, duplicates := range files {
		if err := manager.StoreFor(pid, hostPort, duplicates...); err != nil {
			return err
		}
	}
	return nil
}

// duplicate returns a duplicate of another process's descriptor.
func duplicate(d Descriptor) (*os.File, error) {
	process, err := unix.PidfdOpen(d.PID, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(process)
	fd, err := unix.PidfdGetfd(process, d.FD, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_getfd", err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d of process %d", d.FD, d.PID)), nil
}
