package session

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// wantUnreachable fails the test unless a peer is refused by every request that names it, and nothing is sent to it.
func (b *bareSession) wantUnreachable(t *testing.T, s *signer, to netip.AddrPort, want stun.ErrorCode, now time.Time) {
	t.Helper()
	for _, request := range [][]byte{
		s.message(stun.MethodCreatePermission, 2, turntest.PeerAddr(to)),
		s.message(stun.MethodCreatePermission, 3, turntest.PeerAddr(turntest.PublicPeer), turntest.PeerAddr(publicPeer6),
			turntest.PeerAddr(to)),
		s.message(stun.MethodChannelBind, 4, turntest.Channel(0x4000), turntest.PeerAddr(to)),
	} {
		answer := b.take(request, s.from, now)
		if code := codeOf(t, answer); code != want {
			t.Errorf("%x for %v is answered %d, want %d", request[:2], to, code, want)
		}
	}
	var send stun.Builder
	send.Start(stun.MethodSend, stun.ClassIndication, stun.TransactionID{5})
	send.XORAddress(stun.AttrXORPeerAddress, to)
	send.Text(stun.AttrData, "x")
	for _, message := range [][]byte{send.Bytes(), turntest.ChannelData(0x4000, "x")} {
		if b.relays(message, s.from, now) {
			t.Errorf("%x is sent to %v", message[:2], to)
		}
	}
}

var publicPeer6 = netip.MustParseAddrPort("[2606:4700::1]:40000")

// codeOf returns the error code of a response, or 0 for success.
func codeOf(t *testing.T, answer []byte) stun.ErrorCode {
	t.Helper()
	m, err := stun.Parse(answer)
	if err != nil {
		t.Fatalf("answer %x: %v", answer, err)
	}
	for typ, value := range m.Attributes() {
		if typ == stun.AttrErrorCode && len(value) >= 4 {
			return stun.ErrorCode(int(value[2])*100 + int(value[3]))
		}
	}
	return 0
}

// attackedSession is a session with a dual allocation on public addresses and the default policy.
func attackedSession(t *testing.T) (b *bareSession, s *signer, now time.Time) {
	t.Helper()
	own4, own6 := netip.MustParseAddr("8.8.4.4"), netip.MustParseAddr("2606:4700::99")
	b = newBareSession(t)
	b.shared.config.Relay = turntest.TestRelay(t, relay.Config{
		Listen:    turntest.NewMemNet().Listen,
		Addresses: []relay.Address{{Bind: turntest.Loopback, Advertise: own4}, {Bind: turntest.Loopback6, Advertise: own6}},
		Peers:     peer.New(peer.Rules{Own: []netip.Addr{own4, own6}}),
	})
	now = time.Unix(1758650868, 0)
	s = newSigner(b, now)
	answer := b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP, turntest.Additional), s.from, now)
	if code := codeOf(t, answer); code != 0 {
		t.Fatalf("Allocate is answered %d", code)
	}
	return b, s, now
}

// TestAttackEncodedPeers requests loopback, private networks and the server itself in every form of an address.
func TestAttackEncodedPeers(t *testing.T) {
	b, s, now := attackedSession(t)
	for _, address := range []string{
		"0.0.0.0", "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254", "224.0.0.1",
		"255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1",
		"64:ff9b:1::10.0.0.1", "2002:7f00:1::1", "2002:a00:1::1", "2001:0:101:101::80ff:fffe", "2606:4700::5efe:127.0.0.1",
		"fe80::1", "fc00::1", "fec0::1", "ff02::1",
	} {
		b.wantUnreachable(t, s, netip.AddrPortFrom(netip.MustParseAddr(address), 40000), 403, now)
	}
	for _, address := range []string{"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8"} { // of no family that a relay has
		b.wantUnreachable(t, s, netip.AddrPortFrom(netip.MustParseAddr(address), 40000), 443, now)
	}
}

// TestAttackOwnAddress requests the server's listening ports, and TURN in TURN, by its public addresses. A permission concerns
// an address only, so it is granted. A port that is not a relayed address gets neither a channel nor data.
func TestAttackOwnAddress(t *testing.T) {
	b, s, now := attackedSession(t)
	for _, to := range []string{"8.8.4.4:3478", "8.8.4.4:5349", "8.8.4.4:22", "8.8.4.4:60000", "[2606:4700::99]:3478",
		"[2606:4700::99]:443"} {
		to := netip.MustParseAddrPort(to)
		if answer := b.take(s.message(stun.MethodCreatePermission, 2, turntest.PeerAddr(to)), s.from, now); codeOf(t, answer) != 0 {
			t.Errorf("a permission for %v is refused", to)
		}
		bind := s.message(stun.MethodChannelBind, 3, turntest.Channel(0x4000), turntest.PeerAddr(to))
		if answer := b.take(bind, s.from, now); codeOf(t, answer) != 403 {
			t.Errorf("ChannelBind for %v is answered %d, want 403", to, codeOf(t, answer))
		}
		// Send checks each datagram again.
		if rule, ok := b.shared.config.Relay.MayReach(to); ok || rule == "" {
			t.Errorf("data may go to %v", to)
		}
	}
}

// TestAttackDescriptors makes the system refuse sockets: the client gets an error, and the server does not retry.
func TestAttackDescriptors(t *testing.T) {
	for _, err := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.EADDRNOTAVAIL} {
		opened := 0
		b := newBareSession(t)
		b.shared.config.Relay = turntest.TestRelay(t, relay.Config{Listen: func(string, netip.AddrPort) (relay.Socket, error) {
			opened++
			return nil, fmt.Errorf("socket: %w", err)
		}})
		now := time.Unix(1758650868, 0)
		s := newSigner(b, now)
		answer := b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
		if code := codeOf(t, answer); code != 508 || opened != 1 || b.shared.Allocations() != 0 {
			t.Errorf("%v: answered %d after %d sockets, %d allocations", err, code, opened, b.shared.Allocations())
		}
	}
}

// TestAttackFullTables fills the permissions and channels of an allocation to the default limits and beyond.
func TestAttackFullTables(t *testing.T) {
	now := time.Unix(1758650868, 0)
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 40000)
	}
	t.Run("permissions", func(t *testing.T) {
		b := newBareSession(t)
		s := newSigner(b, now)
		b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
		for i := range maxPermissions + 1 {
			answer := b.take(s.message(stun.MethodCreatePermission, 2, turntest.PeerAddr(at(i))), s.from, now)
			if code := codeOf(t, answer); (code == 508) != (i == maxPermissions) {
				t.Fatalf("permission %d is answered %d", i+1, code)
			}
		}
	})
	t.Run("channels", func(t *testing.T) {
		b := newBareSession(t)
		s := newSigner(b, now)
		b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
		for i := range maxChannels + 1 { // of a few addresses, so that permissions are not what runs out
			peer := netip.AddrPortFrom(at(i%4).Addr(), uint16(20000+i))
			answer := b.take(s.message(stun.MethodChannelBind, 2, turntest.Channel(0x4000+uint16(i)), turntest.PeerAddr(peer)), s.from, now)
			if code := codeOf(t, answer); (code == 508) != (i == maxChannels) {
				t.Fatalf("channel %d is answered %d", i+1, code)
			}
		}
	})
}

// TestAttackClockJumps sets the clock back and forth. A nonce from the future is replaced by a new one. Nothing lasts indefinitely,
// and nothing that has expired becomes valid again.
func TestAttackClockJumps(t *testing.T) {
	b := newBareSession(t)
	now := time.Unix(1758650868, 0)
	s := newSigner(b, now)
	b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
	request := func(serial byte, at time.Time) stun.ErrorCode {
		answer := b.take(s.message(stun.MethodRefresh, serial, turntest.Lifetime(600)), s.from, at)
		return codeOf(t, answer)
	}
	back := now.Add(-time.Hour)
	if code := request(2, back); code != 438 {
		t.Errorf("a nonce from the future is answered %d, want 438", code)
	}
	s.nonce = b.shared.nonces.appendNonce(nil, s.from.Tuple, back)
	if code := request(3, back); code != 0 {
		t.Errorf("a Refresh an hour before is answered %d", code)
	}
	// The allocation now ends ten minutes after the time to which the clock was set back.
	again := back.Add(10 * time.Minute)
	s.nonce = b.shared.nonces.appendNonce(nil, s.from.Tuple, again)
	if code := request(4, again); code != 437 {
		t.Errorf("a Refresh at its end is answered %d, want 437", code)
	}
	forth := now.Add(20 * 365 * 24 * time.Hour)
	if code := request(5, forth); code != 438 {
		t.Errorf("a nonce of the last century is answered %d, want 438", code)
	}
	s.nonce = b.shared.nonces.appendNonce(nil, s.from.Tuple, forth)
	if code := request(6, forth); code != 401 {
		t.Errorf("a credential that has expired meanwhile is answered %d, want 401", code)
	}
	if n := b.shared.Allocations(); n != 0 {
		t.Errorf("%d allocations are left", n)
	}
}

// TestAttackRequests requests the same channel with one credential as fast as possible. Requests above the rate get no
// response, and the allocation remains.
func TestAttackRequests(t *testing.T) {
	b := newBareSession(t)
	now := time.Unix(1758650868, 0)
	s := newSigner(b, now)
	b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
	bind := s.message(stun.MethodChannelBind, 2, turntest.Channel(0x4000),
		turntest.PeerAddr(netip.AddrPortFrom(turntest.Loopback, 40000)))
	if got := b.answers(bind, s.from, now, 12000); got != maxRequests {
		t.Errorf("%d of 12000 requests are answered at once, want %d", got, maxRequests)
	}
	if got := b.answers(bind, s.from, now.Add(time.Second), 12000); got != maxRequestRate {
		t.Errorf("%d of 12000 requests are answered a second later, want %d", got, maxRequestRate)
	}
	if got := b.dropped(event.DropRequestRate); got != 2*12000-maxRequests-maxRequestRate {
		t.Errorf("%d requests are counted as dropped", got)
	}
	// Requests with a stale nonce count too: each costs two signatures.
	s.nonce = []byte("sixteen letters.")
	stale := s.message(stun.MethodRefresh, 3)
	if got := b.answers(stale, s.from, now.Add(2*time.Second), 12000); got != maxRequestRate {
		t.Errorf("%d of 12000 requests with a stale nonce are answered in the next second, want %d", got, maxRequestRate)
	}
	if !b.relays(turntest.ChannelData(0x4000, "x"), s.from, now.Add(time.Second)) {
		t.Error("the channel relays nothing")
	}
}

// TestAttackAllTables checks that the tables of all allocations together are limited, and that each allocation can still have
// its own few entries.
func TestAttackAllTables(t *testing.T) {
	b := newBareSession(t)
	now := time.Unix(1758650868, 0)
	s := newSigner(b, now)
	b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
	permit := func(i int) stun.ErrorCode {
		peer := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 40000)
		return codeOf(t, b.take(s.message(stun.MethodCreatePermission, 2, turntest.PeerAddr(peer)), s.from, now))
	}
	for i := range ownEntries + 1 {
		if code := permit(i); code != 0 {
			t.Fatalf("permission %d is answered %d", i+1, code)
		}
	}
	if got := b.shared.entries.Load(); got != 1 {
		t.Errorf("%d entries are counted beyond those that each allocation has, want 1", got)
	}
	b.shared.entries.Store(maxEntries)
	if code := permit(ownEntries + 1); code != 508 {
		t.Errorf("one more is answered %d when the server is full, want 508", code)
	}
	other := newSigner(b, now)
	other.from = clientAt("192.0.2.10:5000")
	other.nonce = b.shared.nonces.appendNonce(nil, other.from.Tuple, now)
	b.take(other.message(stun.MethodAllocate, 1, turntest.TransportUDP), other.from, now)
	bind := other.message(stun.MethodChannelBind, 2, turntest.Channel(0x4000),
		turntest.PeerAddr(netip.AddrPortFrom(turntest.Loopback, 40000)))
	if code := codeOf(t, b.take(bind, other.from, now)); code != 0 {
		t.Errorf("another allocation's first channel is answered %d", code)
	}
	b.End(now)
	if got := b.shared.entries.Load(); got != maxEntries-1 {
		t.Errorf("%d entries are left after all allocations have ended", got-maxEntries+1)
	}
}

// TestExpiredEntriesMakeRoom checks that a full table accepts new entries after the old ones have expired.
func TestExpiredEntriesMakeRoom(t *testing.T) {
	b := newBareSession(t)
	b.shared.SetQuotas(limit.Quotas{MaxPermissions: 2, MaxChannels: 2})
	now := time.Unix(1758650868, 0)
	s := newSigner(b, now)
	b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP, turntest.Lifetime(3600)), s.from, now)
	bind := func(number int, at time.Time) stun.ErrorCode {
		s.nonce = b.shared.nonces.appendNonce(nil, s.from.Tuple, at)
		peer := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, 0, byte(number)}), 40000)
		bind := s.message(stun.MethodChannelBind, 2, turntest.Channel(0x4000+uint16(number)), turntest.PeerAddr(peer))
		return codeOf(t, b.take(bind, s.from, at))
	}
	for number, want := range []stun.ErrorCode{0, 0, 508} {
		if code := bind(number, now); code != want {
			t.Errorf("channel %d is answered %d, want %d", number, code, want)
		}
	}
	if code := bind(2, now.Add(ChannelLifetime)); code != 0 {
		t.Errorf("a channel is answered %d when the others have expired", code)
	}
}
