package turnsrv

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// silentAfter is how long nothing has come from a client that may be taken for gone. One in a call sends more often: media,
	// or the checks of consent that RFC 7675 section 5.1 has it make every five seconds or so.
	silentAfter = 10 * time.Second
	// fullFor is how long a socket counts as full after the system had no room in it.
	fullFor = 10 * time.Second
	// hearEvery is how exactly it is known when something has come from a client: who looks at it need not wait for who
	// writes it with each packet.
	hearEvery = time.Second
)

var errSilentClient = errors.New("nothing comes from the client, and the socket is full")

// sharedSocket is the packetSocket on which all clients of a listener are reached. It knows whether the system has had room for
// what was sent of late.
//
// A host on the server's own network that vanishes keeps room taken: the kernel holds what is sent to it for the three seconds in
// which it asks for the host's hardware address, up to 208 KB for each host (arp(7), unres_qlen_bytes). Two of them fill the
// buffer that Linux gives a socket by default, and then there is no room for anybody else.
type sharedSocket struct {
	packetSocket
	fullAt atomic.Int64 // in Unix nanoseconds
}

func (s *sharedSocket) writePacket(b []byte, to netip.AddrPort, local netip.Addr) error {
	err := s.packetSocket.writePacket(b, to, local)
	if err != nil && (errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOBUFS)) {
		s.fullAt.Store(time.Now().UnixNano())
	}
	return err
}

// full reports whether the system had no room of late.
func (s *sharedSocket) full(now time.Time) bool {
	return now.UnixNano()-s.fullAt.Load() < int64(fullFor)
}

// silence is what is known of how long a client has been silent. Safe for concurrent use.
type silence struct {
	heardAt atomic.Int64 // in Unix nanoseconds, up to hearEvery late
	leftOut atomic.Bool  // until something comes from the client
}

// hear notes that something has come from the client.
func (s *silence) hear(now time.Time) {
	if at := now.UnixNano(); at-s.heardAt.Load() >= int64(hearEvery) {
		s.heardAt.Store(at)
		if s.leftOut.Load() {
			s.leftOut.Store(false)
		}
	}
}

// leaveOut reports whether data for the client is to be dropped so that others find room: its socket is full, or was when the
// client began to be left out, and nothing has come from the client for silentAfter.
func (s *silence) leaveOut(full func(time.Time) bool, now time.Time) bool {
	if s.leftOut.Load() {
		return true
	}
	if !full(now) || now.UnixNano()-s.heardAt.Load() < int64(silentAfter+hearEvery) {
		return false
	}
	s.leftOut.Store(true)
	return true
}
