package session

import (
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// BenchmarkRelayToRelay relays one packet from an allocation to another one, without sockets.
func BenchmarkRelayToRelay(b *testing.B) {
	session := newBareSession(b)
	now := time.Now()
	var made []*relayedAddress
	for _, addr := range []string{"192.0.2.9:5000", "192.0.2.10:5000"} {
		s := newSigner(session, now)
		s.from = clientAt(addr)
		s.nonce = session.shared.nonces.appendNonce(nil, s.from.Tuple, now)
		session.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
		a := session.allocations.get(s.from)
		a.peers.permit(turntest.Loopback, true, now)
		made = append(made, a.addresses[0])
	}
	made[1].allocation.peers.bind(0x4000, made[0].conn.Relayed(), true, now)
	payload := make([]byte, 1200)
	session.discard = true
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		made[0].conn.Send(payload, made[1].conn.Relayed(), false, time.Now())
	}
	if session.shared.Counters.ToClient.Snapshot().Packets == 0 {
		b.Fatal("nothing came")
	}
}
