package link

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// TestSilentClientIsServed checks that a client that only receives loses nothing as long as there is room.
func TestSilentClientIsServed(t *testing.T) {
	var s session.Silence
	now := time.Unix(1758650868, 0)
	s.Hear(now)
	full := func(time.Time) bool { return true }
	room := func(time.Time) bool { return false }
	if now = now.Add(time.Hour); s.LeaveOut(room, now) {
		t.Error("a silent client is left out although there is room")
	}
	if !s.LeaveOut(full, now) || !s.LeaveOut(room, now) {
		t.Error("a silent client is not left out, or not for good")
	}
	s.Hear(now)
	if s.LeaveOut(full, now.Add(session.SilentAfter)) {
		t.Error("a client that was just heard is left out")
	}
	socket := &portableDatagram{socket: failing{syscall.ENOBUFS}}
	if socket.Full(now) {
		t.Error("a socket on which nothing was sent is full")
	}
	_ = socket.WritePacket(nil, netip.AddrPort{}, netip.Addr{})
	if now := time.Now(); !socket.Full(now) || socket.Full(now.Add(fullFor)) {
		t.Error("a socket without room is not full, or for too long")
	}
	socket = &portableDatagram{socket: failing{errors.New("host unreachable")}}
	if _ = socket.WritePacket(nil, netip.AddrPort{}, netip.Addr{}); socket.Full(time.Now()) {
		t.Error("another error makes a socket full")
	}
}

// failing is a socket on which sending fails.
type failing struct{ err error }

func (f failing) WritePacket([]byte, netip.AddrPort, netip.Addr) error { return f.err }

func (failing) ReadPacket([]byte) (int, netip.AddrPort, netip.Addr, error) {
	return 0, netip.AddrPort{}, netip.Addr{}, errors.ErrUnsupported
}

func (failing) SetReadDeadline(time.Time) error { return nil }

func (failing) Close() error { return nil }
