package turnsrv

import (
	"net"
	"net/netip"
	"time"
)

// packetSocket is a UDP socket that knows which address of this machine a packet came to, and sends from a given one. A
// client takes an answer from another address than the one it asked for a stranger's.
type packetSocket interface {
	// readPacket reads one packet. local is the address that it was sent to, or the zero Addr when that can only be the one
	// that the socket is bound to, or is not known. Called by one goroutine.
	readPacket(b []byte) (n int, from netip.AddrPort, local netip.Addr, err error)
	// writePacket sends b from local, which is one that readPacket returned. Safe for concurrent use.
	writePacket(b []byte, to netip.AddrPort, local netip.Addr) error
	SetReadDeadline(t time.Time) error
	Close() error
}

// newPacketSocket returns conn as a packetSocket: by the fastest way that it offers, and with the local address of each
// packet if it is a socket of the system's that is bound to more than one.
func newPacketSocket(conn net.PacketConn) (packetSocket, error) {
	if udp, ok := conn.(*net.UDPConn); ok {
		return newSystemSocket(udp)
	}
	if udp, ok := conn.(udpSocket); ok {
		return boundSocket{udp}, nil
	}
	return slowSocket{conn}, nil
}

// udpSocket is the part of net.UDPConn that needs no allocation for each packet.
type udpSocket interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	SetReadDeadline(t time.Time) error
	Close() error
}

// boundSocket is bound to one address, so that the system has no choice.
type boundSocket struct{ udpSocket }

func (s boundSocket) readPacket(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, from, err := s.ReadFromUDPAddrPort(b)
	return n, from, netip.Addr{}, err
}

func (s boundSocket) writePacket(b []byte, to netip.AddrPort, _ netip.Addr) error {
	_, err := s.WriteToUDPAddrPort(b, to)
	return err
}

// slowSocket makes a packetSocket of any net.PacketConn.
type slowSocket struct{ net.PacketConn }

func (s slowSocket) readPacket(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, from, err := s.ReadFrom(b)
	return n, addrPortOf(from), netip.Addr{}, err
}

func (s slowSocket) writePacket(b []byte, to netip.AddrPort, _ netip.Addr) error {
	_, err := s.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return err
}
