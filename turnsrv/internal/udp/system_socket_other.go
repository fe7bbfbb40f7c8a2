//go:build !linux

package udp

import "net"

// newSystemSocket returns a socket that sends from the address that the system chooses. A machine with several addresses should
// therefore listen on each of them separately.
func newSystemSocket(conn *net.UDPConn) (PacketSocket, error) { return boundSocket{conn}, nil }
