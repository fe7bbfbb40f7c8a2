package link

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

// fullFor is how long a socket counts as full after a send failed because its buffer was full.
const fullFor = 10 * time.Second

// sharedSocket is the socket of a link as the DTLS associations use it. Its methods are safe for concurrent use.
type sharedSocket interface {
	// WritePacket sends b from local, the address at which a packet was received.
	WritePacket(b []byte, to netip.AddrPort, local netip.Addr) error
	// Full implements session.Link.
	Full(now time.Time) bool
}

// fullness records whether the send buffer of a socket was full within fullFor. Safe for concurrent use.
//
// A host on the server's own network that disappears occupies the buffer: the kernel holds packets for it during the three
// seconds in which it tries to resolve the host's hardware address, up to 208 KB per host (arp(7), unres_qlen_bytes). Two such
// hosts fill the default send buffer of Linux, and then no client can be reached.
type fullness struct {
	start time.Time    // set before use
	until atomic.Int64 // nanoseconds after start
}

func newFullness() fullness { return fullness{start: time.Now()} }

// record records the result of a send.
func (f *fullness) record(err error) {
	if err != nil && (errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOBUFS)) {
		f.set(time.Now())
	}
}

// set records that the buffer was full.
func (f *fullness) set(now time.Time) { f.until.Store(int64(now.Sub(f.start) + fullFor)) }

// Full implements session.Link.
func (f *fullness) Full(now time.Time) bool { return int64(now.Sub(f.start)) < f.until.Load() }
