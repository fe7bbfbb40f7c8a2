package turn

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnsent bounds the unsent bytes that the system accepts for a connection to maxUnsent, tcp(7). It ignores errors.
func limitUnsent(conn syscall.Conn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
	})
}
