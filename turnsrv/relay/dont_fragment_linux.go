package relay

import "syscall"

// CanDontFragment reports whether the DONT-FRAGMENT attribute is supported, RFC 8656 section 14.9.
const CanDontFragment = true

// setDontFragment makes the kernel set the DF bit and reject packets that exceed the path MTU (EMSGSIZE), or allow
// fragmentation.
func setDontFragment(socket Socket, ipv4, not bool) error {
	conn, ok := socket.(syscall.Conn)
	if !ok {
		return nil // not a system socket, so its packets have no DF bit
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = setPathMTUDiscovery(int(fd), ipv4, not) }); err != nil {
		return err
	}
	return failed
}

// setPathMTUDiscovery implements setDontFragment for a descriptor.
func setPathMTUDiscovery(fd int, ipv4, not bool) error {
	level, option, value := syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER, syscall.IP_PMTUDISC_DONT
	if not {
		value = syscall.IP_PMTUDISC_DO
	}
	if !ipv4 {
		level, option = syscall.IPPROTO_IPV6, syscall.IPV6_MTU_DISCOVER // the values are the same as for IPv4
	}
	return syscall.SetsockoptInt(fd, level, option, value)
}
