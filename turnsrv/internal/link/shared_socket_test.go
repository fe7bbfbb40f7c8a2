package link

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestSilentClientIsServed checks that a client that only receives loses nothing as long as there is room.
func TestSilentClientIsServed(t *testing.T) {
	begin := time.Unix(1758650868, 0)
	var s session.Silence
	leaveOut := func(full func(time.Time) bool, at time.Duration) bool { return s.LeaveOut(full, begin.Add(at), at) }
	full := func(time.Time) bool { return true }
	room := func(time.Time) bool { return false }
	if leaveOut(room, time.Hour) {
		t.Error("a silent client is left out although there is room")
	}
	if !leaveOut(full, time.Hour) || !leaveOut(room, time.Hour) {
		t.Error("a silent client is not left out, or not for good")
	}
	s.Hear(time.Hour)
	if leaveOut(full, time.Hour+session.SilentAfter) {
		t.Error("a client that was just heard is left out")
	}
	socket := &portableDatagram{fullness: newFullness(), socket: failing{syscall.ENOBUFS}}
	if socket.Full(time.Now()) {
		t.Error("a socket on which nothing was sent is full")
	}
	_ = socket.WritePacket(nil, netip.AddrPort{}, netip.Addr{})
	if now := time.Now(); !socket.Full(now) || socket.Full(now.Add(fullFor)) {
		t.Error("a socket without room is not full, or for too long")
	}
	socket = &portableDatagram{fullness: newFullness(), socket: failing{errors.New("host unreachable")}}
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

// TestFullSocketOutlivesClock sets the clock after a send failed because there was no room.
func TestFullSocketOutlivesClock(t *testing.T) {
	for _, by := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		f := newFullness()
		f.record(syscall.ENOBUFS)
		now := time.Now()
		if !f.Full(turntest.SetClock(t, now, by)) || f.Full(turntest.SetClock(t, now.Add(fullFor), by)) {
			t.Errorf("%v: a socket without room is not full, or for too long", by)
		}
	}
}
