package session

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestUnsentPacketIsDropped makes the client's socket or queue refuse a packet from a peer. The packet must be counted once, as
// dropped.
func TestUnsentPacketIsDropped(t *testing.T) {
	for refusal, reason := range map[error]event.DropReason{syscall.EPERM: event.DropSend, ErrQueue: event.DropQueue} {
		b := newBareSession(t)
		now := time.Now()
		s := newSigner(b, now)
		b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
		peer := netip.AddrPortFrom(turntest.Loopback, 40000)
		b.take(s.message(stun.MethodCreatePermission, 2, turntest.PeerAddr(peer)), s.from, now)
		b.refuse = refusal
		b.allocations.get(s.from).addresses[0].Deliver(peer, []byte("hello"), now)
		if got := b.shared.Counters.ToClient.Snapshot(); got.Packets != 0 || b.dropped(reason) != 1 {
			t.Errorf("%v: %d packets relayed, %d counted as dropped", refusal, got.Packets, b.dropped(reason))
		}
	}
}
