package turnsrv

import (
	"net/netip"
	"testing"
	"testing/synctest"
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
			if got := passed(200); got != 62 {
				t.Errorf("period %d: %d packets of 1 kB go to both ports of an address that never answers, want 62", period, got)
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
		if got := b.server.Counters().Dropped[DropSilentPeer]; got != 2*(200-62+4) {
			t.Errorf("%d counted as dropped, want %d", got, 2*(200-62+4))
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
	a := silentServer(DefaultSilentPeerBytes)()
	var p permission
	now := time.Unix(1758650868, 0)
	for range 20 * 60 { // a minute of one each 50 ms
		if !a.mayGo(&p, victim, check, now) {
			t.Fatal("a check is held up")
		}
		now = now.Add(50 * time.Millisecond)
	}
	p.heard.Store(true)
	for range 10000 { // 100 Mbit/s
		if !a.mayGo(&p, victim, 1200, now) {
			t.Fatal("media is held up")
		}
		now = now.Add(100 * time.Microsecond)
	}
}

func TestSilentPeerWithoutLimit(t *testing.T) {
	if !silentServer(-1)().mayGo(new(permission), victim, 1<<30, time.Now()) {
		t.Error("there is a limit")
	}
}

// victim is a peer that never answers.
var victim = netip.MustParseAddr("192.0.2.1")

// silentServer returns a function that makes allocations of one server.
func silentServer(budget int) func() *allocation {
	f := &front{shared: &shared{silentPeers: silentPeers{budget: budget}}}
	return func() *allocation { return &allocation{front: f} }
}

// TestSilentPeersDoNotMultiply has somebody send to addresses that never answer, as much as he is let, from many allocations, or
// to many addresses.
func TestSilentPeersDoNotMultiply(t *testing.T) {
	const budget = DefaultSilentPeerBytes
	for _, tt := range []struct {
		name        string
		allocations int
		addrs       int
		addr        func(i int) netip.Addr
		want        int // in units of budget
	}{
		{"one address from one allocation", 1, 1, func(int) netip.Addr { return victim }, 1},
		{"one address from many allocations", 100, 1, func(int) netip.Addr { return victim }, silentOfHost},
		{"many addresses in one /64", 100, 200, func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 1, 0xD, 0xB8, 15: byte(i)}) }, silentOfHost},
		{"many addresses in one /24", 100, 200, func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }, silentOfNetwork},
		{"addresses everywhere", 1, 200, func(i int) netip.Addr { return netip.AddrFrom4([4]byte{8, byte(i), 1, 1}) }, silentOfAllocation},
	} {
		allocate := silentServer(budget)
		now := time.Unix(1758650868, 0)
		passed := 0
		for range tt.allocations {
			a := allocate()
			for i := range tt.addrs {
				var p permission
				for range budget/1024 + 10 {
					if a.mayGo(&p, tt.addr(i), 1024, now) {
						passed += 1024
					}
				}
			}
		}
		if passed != tt.want*budget {
			t.Errorf("%s: %d bytes go to addresses that never answer, want %d", tt.name, passed, tt.want*budget)
		}
		// The next period has as much, give or take a packet.
		now = now.Add(silentPeriod)
		if !allocate().mayGo(new(permission), tt.addr(0), budget/2, now) {
			t.Errorf("%s: nothing passes in the next period", tt.name)
		}
	}
}

// TestEmptyPacketsToSilentPeers wants datagrams without payload to count: they cost the peer their headers.
func TestEmptyPacketsToSilentPeers(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		peer, err := b.net.bind(netip.MustParseAddrPort("127.0.0.2:4000"))
		if err != nil {
			t.Fatal(err)
		}
		c := b.client()
		c.allocate()
		c.want(c.request(stun.MethodChannelBind, channel(0x4000), peerAddr(peer.addr)), 0)
		for range DefaultSilentPeerBytes/headersIPv4 + 100 {
			c.write(channelData(0x4000, ""))
			synctest.Wait()
		}
		if got, want := b.server.Counters().ToPeer.Packets, uint64(DefaultSilentPeerBytes/headersIPv4); got != want {
			t.Errorf("%d empty packets go to an address that never answers, want %d", got, want)
		}
	})
}
