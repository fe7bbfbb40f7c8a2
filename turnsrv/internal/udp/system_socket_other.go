//go:build !linux

package udp

import "net"

// newSystemSocket returns a socket that answers from the address which the system chooses: a machine with several of
// them should listen on each one by name.
func newSystemSocket(conn *net.UDPConn) (PacketSocket, error) { return boundSocket{conn}, nil }
