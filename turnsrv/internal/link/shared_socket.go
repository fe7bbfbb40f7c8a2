package link

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// fullFor is how long a socket counts as full after a send failed because its buffer was full.
const fullFor = 10 * time.Second

// sharedSocket is a PacketSocket shared by all clients of a listener. It records whether its send buffer was recently full.
//
// A host on the server's own network that disappears occupies the buffer: the kernel holds packets for it during the three
// seconds in which it tries to resolve the host's hardware address, up to 208 KB per host (arp(7), unres_qlen_bytes). Two such
// hosts fill the default send buffer of Linux, and then no client can be reached.
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

// full reports whether the send buffer was full within fullFor.
func (s *sharedSocket) full(now time.Time) bool {
	return now.UnixNano()-s.fullAt.Load() < int64(fullFor)
}
