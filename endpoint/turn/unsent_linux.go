package turn

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnsent bounds what the system takes for a connection and has not sent yet to maxUnsent, tcp(7). One on which that fails
// works as well.
func limitUnsent(conn syscall.Conn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
	})
}
