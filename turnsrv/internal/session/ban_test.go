package session

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/ban"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestBanDuringAllocate bans the client, and ends its allocations, after its Allocate request has passed the check and before it has
// an allocation. Nothing may be left of the request.
func TestBanDuringAllocate(t *testing.T) {
	var bans ban.List
	var b *bareSession
	net := turntest.NewMemNet()
	opened := false
	listen := func(network string, addr netip.AddrPort) (relay.Socket, error) {
		opened = true
		bans.Set([]ban.Ban{{Network: netip.MustParsePrefix("192.0.2.0/24"), Until: time.Unix(1<<33, 0)}})
		ended, err := b.shared.Inspect(t.Context(), func(event.Allocation) bool { return true })
		if err != nil || len(ended) > 0 {
			t.Errorf("ended %v, %v: want the allocation not to exist yet", ended, err)
		}
		return net.Listen(network, addr)
	}
	b = newBareSessionOf(Config{
		Realm:         turntest.TestRealm,
		Authenticator: credential.Verifier{Secrets: []credential.Secret{credential.NewSecret([]byte(turntest.TestSecret))}},
		Relay:         turntest.TestRelay(t, relay.Config{Listen: listen, Addresses: []relay.Address{turntest.Address4}}),
		Bans:          &bans, Quotas: limited(limit.Quotas{MaxAllocationsPerUser: 1}),
		Lifetime: 10 * time.Minute, MaxLifetime: time.Hour, NonceLifetime: 10 * time.Minute,
		UnauthenticatedRate: 500, MaxGuesses: maxGuesses, Logger: slog.New(slog.DiscardHandler),
	})
	now := time.Unix(1758650868, 0)
	s := newSigner(b, now)
	if code := codeOf(t, b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)); code != stun.CodeForbidden || !opened {
		t.Fatalf("got %d, want 403", code)
	}
	if n := b.shared.Allocations(); n != 0 {
		t.Fatalf("%d allocations of a banned client are left", n)
	}
	bans.Set(nil)
	opened = false
	s.from.Tuple.Client = netip.MustParseAddrPort("198.51.100.9:5000") // which listen does not ban
	s.nonce = b.shared.nonces.appendNonce(nil, s.from.Tuple, now)
	if code := codeOf(t, b.take(s.message(stun.MethodAllocate, 2, turntest.TransportUDP), s.from, now)); code != 0 || b.shared.Allocations() != 1 {
		t.Errorf("the same account elsewhere: got %d and %d allocations, want one", code, b.shared.Allocations())
	}
}

// TestBanAtRefresh bans a client whose allocation goes on, for example because Disconnect has timed out. Its next Refresh ends it, and one
// that ends it anyway is answered as always.
func TestBanAtRefresh(t *testing.T) {
	for _, tt := range []struct {
		lifetime uint32
		want     stun.ErrorCode
		end      event.EndReason
	}{{600, stun.CodeForbidden, event.EndedByOperator}, {0, 0, event.EndedByClient}} {
		var bans ban.List
		b := newBareSession(t)
		b.shared.config.Bans = &bans
		now := time.Unix(1758650868, 0)
		s := newSigner(b, now)
		refresh := func(id byte, lifetime uint32) stun.ErrorCode {
			t.Helper()
			return codeOf(t, b.take(s.message(stun.MethodRefresh, id, turntest.Lifetime(lifetime)), s.from, now))
		}
		b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
		if code := refresh(2, 600); code != 0 {
			t.Fatalf("Refresh before the ban is answered %d", code)
		}
		bans.Set([]ban.Ban{{Network: netip.PrefixFrom(s.from.Tuple.Client.Addr(), s.from.Tuple.Client.Addr().BitLen()), Until: now.Add(time.Hour)}})
		if code := refresh(3, tt.lifetime); code != tt.want || b.shared.Allocations() != 0 {
			t.Errorf("Refresh with lifetime %d is answered %d, want %d; %d allocations are left", tt.lifetime, code, tt.want, b.shared.Allocations())
		}
		if n := b.shared.Counters.Ended[tt.end].Load(); n != 1 {
			t.Errorf("%d allocations have ended with the reason %v, want 1", n, tt.end)
		}
	}
}
