package daemon

import "syscall"

// endWithParent has the kernel send SIGTERM when the parent ends (prctl(2), PR_SET_PDEATHSIG).
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }
