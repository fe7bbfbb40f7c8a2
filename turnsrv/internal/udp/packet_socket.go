package udp

import (
	"net"
	"net/netip"
	"time"
)

// PacketSocket is a UDP socket that reports the destination address of each packet and can send from a given address. A client
// ignores a response that comes from an address other than the one it sent the request to.
type PacketSocket interface {
	// ReadPacket reads one packet. local is its destination address, or the zero Addr if the socket is bound to a single address
	// or the destination is unknown. Called by one goroutine.
	ReadPacket(b []byte) (n int, from netip.AddrPort, local netip.Addr, err error)
	// WritePacket sends b from local, an address that ReadPacket returned. Safe for concurrent use.
	WritePacket(b []byte, to netip.AddrPort, local netip.Addr) error
	SetReadDeadline(t time.Time) error
	Close() error
}

// NewPacketSocket returns a PacketSocket that uses conn in the fastest way that conn supports.
func NewPacketSocket(conn net.PacketConn) PacketSocket {
	if udp, ok := conn.(udpSocket); ok {
		return boundSocket{udp}
	}
	return slowSocket{conn}
}

// udpSocket is the part of net.UDPConn that does not allocate memory for each packet.
type udpSocket interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	SetReadDeadline(t time.Time) error
	Close() error
}

// boundSocket leaves the choice of the source address to the system.
type boundSocket struct{ udpSocket }

func (s boundSocket) ReadPacket(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, from, err := s.ReadFromUDPAddrPort(b)
	return n, from, netip.Addr{}, err
}

func (s boundSocket) WritePacket(b []byte, to netip.AddrPort, _ netip.Addr) error {
	_, err := s.WriteToUDPAddrPort(b, to)
	return err
}

// slowSocket implements PacketSocket with any net.PacketConn.
type slowSocket struct{ net.PacketConn }

func (s slowSocket) ReadPacket(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, from, err := s.ReadFrom(b)
	return n, AddrPortOf(from), netip.Addr{}, err
}

func (s slowSocket) WritePacket(b []byte, to netip.AddrPort, _ netip.Addr) error {
	_, err := s.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return err
}
