package turnsrv

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

func TestSilentPeerGetsLittle(t *testing.T) {
	// Not the relay's own address, at which a peer is another allocation.
	far := netip.MustParseAddr("127.0.0.2")
	inBubble(t, func(c *Config) { c.Lifetime = time.Hour; c.NonceLifetime = time.Hour }, func(b *bubble) {
		at := func(port uint16) *turntest.MemConn {
			t.Helper()
			c, err := b.net.Bind(netip.AddrPortFrom(far, port))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		c, peer, other := b.client(), at(4000), at(4001)
		relayed := c.allocate()
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr)), 0)
		indication := func(to *turntest.MemConn, size int) []byte {
			return c.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(to.Addr),
				turntest.Attr(stun.AttrData, make([]byte, size)...))
		}
		passed := func(n int) (got int) {
			for i := range n {
				if i%2 == 0 && b.gets(c, peer, turntest.ChannelData(0x4000, string(make([]byte, 1024)))) ||
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
			time.Sleep(session.SilentPeriod - time.Millisecond)
			if got := passed(2); got != 0 {
				t.Errorf("period %d: %d packets pass before its end", period, got)
			}
			// Creating a permission again does not start a new period.
			c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr)), 0)
			if got := passed(2); got != 0 {
				t.Errorf("period %d: %d packets pass after the permission was refreshed", period, got)
			}
			time.Sleep(time.Millisecond)
		}
		if got := b.server.Counters().Dropped[event.DropSilentPeer]; got != 2*(200-62+4) {
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

// TestEmptyPacketsToSilentPeers checks that datagrams without payload count, because their headers use the peer's bandwidth.
func TestEmptyPacketsToSilentPeers(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		peer, err := b.net.Bind(netip.MustParseAddrPort("127.0.0.2:4000"))
		if err != nil {
			t.Fatal(err)
		}
		c := b.client()
		c.allocate()
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr)), 0)
		for range DefaultSilentPeerBytes/session.HeadersIPv4 + 100 {
			c.write(turntest.ChannelData(0x4000, ""))
			synctest.Wait()
		}
		if got, want := b.server.Counters().ToPeer.Packets, uint64(DefaultSilentPeerBytes/session.HeadersIPv4); got != want {
			t.Errorf("%d empty packets go to an address that never answers, want %d", got, want)
		}
	})
}
