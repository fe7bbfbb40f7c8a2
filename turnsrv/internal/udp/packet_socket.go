package udp

import (
	"net"
	"net/netip"
	"time"
)

// PacketSocket is a UDP socket that knows which address of this machine a packet came to, and sends from a given one. A
// client takes an answer from another address than the one it asked for a stranger's.
type PacketSocket interface {
	// ReadPacket reads one packet. local is the address that it was sent to, or the zero Addr when that can only be the one
	// that the socket is bound to, or is not known. Called by one goroutine.
	ReadPacket(b []byte) (n int, from netip.AddrPort, local netip.Addr, err error)
	// WritePacket sends b from local, which is one that readPacket returned. Safe for concurrent use.
	WritePacket(b []byte, to netip.AddrPort, local netip.Addr) error
	SetReadDeadline(t time.Time) error
	Close() error
}

// NewPacketSocket returns conn as a packetSocket: by the fastest way that it offers, and with the local address of each
// packet if it is a socket of the system's that is bound to more than one.
func NewPacketSocket(conn net.PacketConn) (PacketSocket, error) {
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

func (s boundSocket) ReadPacket(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, from, err := s.ReadFromUDPAddrPort(b)
	return n, from, netip.Addr{}, err
}

func (s boundSocket) WritePacket(b []byte, to netip.AddrPort, _ netip.Addr) error {
	_, err := s.WriteToUDPAddrPort(b, to)
	return err
}

// slowSocket makes a packetSocket of any net.PacketConn.
type slowSocket struct{ net.PacketConn }

func (s slowSocket) ReadPacket(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, from, err := s.ReadFrom(b)
	return n, AddrPortOf(from), netip.Addr{}, err
}

func (s slowSocket) WritePacket(b []byte, to netip.AddrPort, _ netip.Addr) error {
	_, err := s.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return err
}
