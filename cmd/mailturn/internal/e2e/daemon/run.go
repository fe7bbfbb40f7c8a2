package daemon

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Run starts cmd, and sends what its Wait returns when it has ended. If this process ends before, however it does, cmd is
// told to end as well, where the system has that: what a test was killed over, such as a call between two browsers, would
// go on for ever.
func Run(cmd *exec.Cmd) (exited chan error, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	endWithParent(cmd.SysProcAttr)
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: to the system the parent is the thread that starts cmd
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return ended, <-started
}
