package session

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestClockIsSet sets the system's clock forward and back by a day during a call. The call continues, its nonce remains valid, and
// it ends on time. Only credentials follow the clock.
func TestClockIsSet(t *testing.T) {
	for _, by := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			b := newBareSession(t)
			begin := time.Now()
			b.shared.start = begin
			at := func(after time.Duration) time.Time { return turntest.SetClock(t, begin.Add(after), by) }
			s := newSigner(b, begin)
			b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, begin)
			peer := netip.AddrPortFrom(turntest.Loopback, 40000)
			b.take(s.message(stun.MethodChannelBind, 2, turntest.Channel(0x4000), turntest.PeerAddr(peer)), s.from, begin)
			if !b.relays(turntest.ChannelData(0x4000, "x"), s.from, at(4*time.Minute)) {
				t.Error("the channel relays nothing after the clock was set")
			}
			if code := codeOf(t, b.take(s.message(stun.MethodRefresh, 3), s.from, at(5*time.Minute))); code != 0 {
				t.Errorf("a Refresh with the same nonce is answered %d", code)
			}
			if b.relays(turntest.ChannelData(0x4000, "x"), s.from, at(ChannelLifetime)) {
				t.Error("the channel does not end when its time is over")
			}
			b.Tick(at(14 * time.Minute))
			if n := b.shared.Allocations(); n != 1 {
				t.Errorf("%d allocations before the lifetime is over, want 1", n)
			}
			b.Tick(at(15*time.Minute + JanitorPeriod))
			if n := b.shared.Allocations(); n != 0 {
				t.Errorf("%d allocations after the lifetime, want none", n)
			}

			// A credential that expires in half an hour, and one issued according to the wrong clock.
			now := at(16 * time.Minute)
			s.nonce = b.shared.nonces.appendNonce(nil, s.from.Tuple, now)
			issuer := credential.Issuer{Secret: credential.NewSecret([]byte(turntest.TestSecret)), TTL: 30 * time.Minute}
			for _, issued := range []time.Time{begin, now} {
				s.use(issuer.Issue(issued))
				expired := issued.Round(0).Add(issuer.TTL).Before(now.Round(0))
				code := codeOf(t, b.take(s.message(stun.MethodAllocate, 4, turntest.TransportUDP), s.from, now))
				if want := map[bool]stun.ErrorCode{true: 401}[expired]; code != want {
					t.Errorf("a credential issued %v ago by the clock is answered %d, want %d", now.Round(0).Sub(issued.Round(0)), code, want)
				}
				b.End(now)
			}
		})
	}
}

// TestSilenceOutlivesClock sets the clock while a client is silent, and checks that this does not change how long the silence
// lasts.
func TestSilenceOutlivesClock(t *testing.T) {
	begin := time.Now()
	full := func(time.Time) bool { return true }
	for _, by := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		var s Silence
		leaveOut := func(now time.Time) bool { return s.LeaveOut(full, now, now.Sub(begin)) }
		if leaveOut(turntest.SetClock(t, begin.Add(time.Second), by)) {
			t.Errorf("%v: a client that was just heard is left out", by)
		}
		gone := begin.Add(SilentAfter + 2*hearEvery)
		if !leaveOut(turntest.SetClock(t, gone, by)) {
			t.Errorf("%v: a silent client is not left out", by)
		}
		s.Hear(turntest.SetClock(t, gone, by).Sub(begin))
		if leaveOut(turntest.SetClock(t, gone, by)) {
			t.Errorf("%v: a client is left out that is heard again", by)
		}
	}
}
