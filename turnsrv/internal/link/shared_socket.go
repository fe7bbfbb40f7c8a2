package link

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// fullFor is how long a socket counts as full after the system had no room in it.
const fullFor = 10 * time.Second

// sharedSocket is the packetSocket on which all clients of a listener are reached. It knows whether the system has had room for
// what was sent of late.
//
// A host on the server's own network that vanishes keeps room taken: the kernel holds what is sent to it for the three seconds in
// which it asks for the host's hardware address, up to 208 KB for each host (arp(7), unres_qlen_bytes). Two of them fill the
// buffer that Linux gives a socket by default, and then there is no room for anybody else.
type sharedSocket struct {
	udp.PacketSocket
	fullAt atomic.Int64 // in Unix nanoseconds
}

func (s *sharedSocket) WritePacket(b []byte, to netip.AddrPort, local netip.Addr) error {
	err := s.PacketSocket.WritePacket(b, to, local)
	if err != nil && (errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOBUFS)) {
		s.fullAt.Store(time.Now().UnixNano())
	}
	return err
}

// full reports whether the system had no room of late.
func (s *sharedSocket) full(now time.Time) bool {
	return now.UnixNano()-s.fullAt.Load() < int64(fullFor)
}
