package control

import (
	"net"
	"syscall"
)

// callerOn returns the process at the other end of conn.
func callerOn(conn *net.UnixConn) Caller {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Caller{}
	}
	var c Caller
	err = raw.Control(func(fd uintptr) {
		if ucred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			c = Caller{UID: ucred.Uid, GID: ucred.Gid, PID: ucred.Pid, Known: true}
		}
	})
	if err != nil {
		return Caller{}
	}
	return c
}
