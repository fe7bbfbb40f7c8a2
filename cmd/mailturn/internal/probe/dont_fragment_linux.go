package probe

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// dontFragment makes the system send conn's datagrams whole with the DF bit set, whatever MTU it has learned for the path, so that
// the path alone determines which sizes get through. It returns an error if conn is not a UDP socket.
func dontFragment(conn net.Conn) error {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		if addr, ok := conn.RemoteAddr().(*net.UDPAddr); ok && addr.IP.To4() == nil {
			optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
			return
		}
		optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	})
	if err != nil {
		return err
	}
	return optErr
}
