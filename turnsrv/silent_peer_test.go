package turnsrv

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

func TestSilentPeerGetsLittle(t *testing.T) {
	// Not the relay's own address, at which a peer is another allocation.
	far := netip.MustParseAddr("127.0.0.2")
	inBubble(t, func(c *Config) { c.Lifetime = time.Hour; c.NonceLifetime = time.Hour }, func(b *bubble) {
		at := func(port uint16) *memConn {
			t.Helper()
			c, err := b.net.bind(netip.AddrPortFrom(far, port))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		c, peer, other := b.client(), at(4000), at(4001)
		relayed := c.allocate()
		c.want(c.request(stun.MethodChannelBind, channel(0x4000), peerAddr(peer.addr)), 0)
		indication := func(to *memConn, size int) []byte {
			return c.message(stun.MethodSend, stun.ClassIndication, peerAddr(to.addr), attr(stun.AttrData, make([]byte, size)...))
		}
		passed := func(n int) (got int) {
			for i := range n {
				if i%2 == 0 && b.gets(c, peer, channelData(0x4000, string(make([]byte, 1024)))) ||
					i%2 == 1 && b.gets(c, other, indication(other, 1024)) {
					got++
				}
			}
			return got
		}
		for period := range 2 {
			if got := passed(200); got != 64 {
				t.Errorf("period %d: %d packets of 1 kB go to both ports of an address that never answers, want 64", period, got)
			}
			time.Sleep(silentPeriod - time.Millisecond)
			if got := passed(2); got != 0 {
				t.Errorf("period %d: %d packets pass before its end", period, got)
			}
			// A permission that is made again begins no new period.
			c.want(c.request(stun.MethodCreatePermission, peerAddr(peer.addr)), 0)
			if got := passed(2); got != 0 {
				t.Errorf("period %d: %d packets pass after the permission was refreshed", period, got)
			}
			time.Sleep(time.Millisecond)
		}
		if got := b.server.Counters().Dropped[DropSilentPeer]; got != 2*(200-64+4) {
			t.Errorf("%d counted as dropped, want %d", got, 2*(200-64+4))
		}
		passed(200)
		if !b.reaches(c, peer, relayed) {
			t.Fatal("the peer does not reach the client")
		}
		if got := passed(200); got != 200 {
			t.Errorf("%d packets pass after the peer has answered, want 200", got)
		}
	})
}

// An agent that checks an address which does not answer, as fast as RFC 8445 section 14.2 lets it, is never held up, and
// neither is media when the peer answers checks and consent and nothing else.
func TestSilentPeerBudgetAndICE(t *testing.T) {
	const check = 140 // bytes: USERNAME, PRIORITY, ICE-CONTROLLING, MESSAGE-INTEGRITY, FINGERPRINT and what vendors add
	var p permission
	now := time.Unix(1758650868, 0)
	for range 20 * 60 { // a minute of one each 50 ms
		if !p.mayGo(check, DefaultSilentPeerBytes, now) {
			t.Fatal("a check is held up")
		}
		now = now.Add(50 * time.Millisecond)
	}
	p.heard.Store(true)
	for range 10000 { // 100 Mbit/s
		if !p.mayGo(1200, DefaultSilentPeerBytes, now) {
			t.Fatal("media is held up")
		}
		now = now.Add(100 * time.Microsecond)
	}
}

func TestSilentPeerWithoutLimit(t *testing.T) {
	var p permission
	if !p.mayGo(1<<30, -1, time.Now()) {
		t.Error("there is a limit")
	}
}
