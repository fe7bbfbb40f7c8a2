//go:build !linux

package control

import "net"

// callerOn returns the zero Caller: only Linux is asked.
func callerOn(*net.UnixConn) Caller { return Caller{} }
