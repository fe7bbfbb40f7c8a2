package daemon

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Run starts cmd, and sends what its Wait returns when it has ended. If this process ends first, in any way, cmd is terminated as
// well on systems that support it: otherwise the programs of a killed test, such as two browsers in a call, would run forever.
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
