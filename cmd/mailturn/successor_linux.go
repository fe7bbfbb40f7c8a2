package main

import (
	"os"
	"os/signal"
	"syscall"
)

// siblingProcess returns the attributes of a process that has the parent of this one. Under a service manager, which is told of it, it
// becomes the main process of the service, and the manager is told by the system when it ends.
func siblingProcess() *syscall.SysProcAttr {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_PARENT}
}

// notifyUpgrade makes SIGUSR2 ask for an upgrade.
func notifyUpgrade(c chan<- os.Signal) { signal.Notify(c, syscall.SIGUSR2) }
