package turnsrv

import (
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestDropsAreExplained drops packets of a call repeatedly for every reason. The debug log must contain each reason once, with
// the client and peer, and the totals at the end of the call.
func TestDropsAreExplained(t *testing.T) {
	var log syncBuffer
	debug := func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.SilentPeerBytes = 1000
	}
	inBubble(t, debug, func(b *bubble) {
		c, peer, stranger := b.client(), b.listen(), b.listen()
		far, err := b.net.Bind(netip.MustParseAddrPort("127.0.0.2:4000"))
		if err != nil {
			b.Fatal(err)
		}
		for range 3 {
			c.write(turntest.ChannelData(0x4000, "too early"))
			c.silent()
		}
		relayed := c.allocate()
		for range 3 {
			c.write(turntest.ChannelData(0x4000, "not bound"))
			c.silent()
			b.send(c, peer)
			if _, err := stranger.WriteToUDPAddrPort([]byte("hello"), relayed); err != nil {
				b.Fatal(err)
			}
			synctest.Wait()
		}
		c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(far.Addr)), 0)
		for range 3 {
			c.write(c.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(far.Addr),
				turntest.Attr(stun.AttrData, make([]byte, 1001)...)))
			c.silent()
		}
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000),
			turntest.PeerAddr(netip.MustParseAddrPort("10.0.0.1:4000"))), 403)
		c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
		c.want(c.request(stun.MethodRefresh), 437)
		synctest.Wait()

		client := c.conn.LocalAddr().String()
		call := " client=" + client + " username=" + c.credential.Username + " relay=" + relayed.String()
		for _, want := range []string{
			`msg="message dropped" reason=no_allocation client=` + client + " transport=UDP skipped=0",
			`msg="packet dropped" reason=no_channel` + call + "\n",
			`msg="packet dropped" reason=no_permission` + call + " peer=" + peer.Addr.String(),
			`msg="packet dropped" reason=peer_no_permission` + call + " peer=" + stranger.Addr.String(),
			`msg="packet dropped" reason=silent_peer` + call + " peer=" + far.Addr.String(),
			`msg="request refused" method=ChannelBind code=403 client=` + client,
			`msg="request refused" method=Refresh code=437 client=` + client,
			"allocation.dropped_no_channel=3 allocation.dropped_no_permission=3 " +
				"allocation.dropped_peer_no_permission=3 allocation.dropped_silent_peer=3",
		} {
			if got := strings.Count(log.String(), want); got != 1 {
				t.Errorf("%d lines, want 1: %s", got, want)
			}
		}
		want := map[event.DropReason]uint32{event.DropNoChannel: 3, event.DropNoPermission: 3, event.DropPeerNoPermission: 3,
			event.DropSilentPeer: 3}
		if got := b.events[len(b.events)-1].Dropped; !maps.Equal(got, want) {
			t.Errorf("dropped %v, want %v", got, want)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
}

// TestQuotasAreExplained checks that an operator sees, without debug logging, that a quota refuses clients.
func TestQuotasAreExplained(t *testing.T) {
	for reason, quotas := range map[string]limit.Quotas{
		"level=WARN msg=\"allocation refused: quota reached\" reason=total_quota":  {MaxAllocations: 1},
		"level=INFO msg=\"allocation refused: quota reached\" reason=user_quota":   {MaxAllocationsPerUser: 1},
		"level=INFO msg=\"allocation refused: quota reached\" reason=source_quota": {MaxAllocationsPerSource: 1},
	} {
		var log syncBuffer
		limited := func(c *Config) {
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
			c.Quotas = quotas
		}
		inBubble(t, limited, func(b *bubble) {
			b.client().allocate()
			c := b.client()
			for range 3 {
				c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 486)
			}
			time.Sleep(limit.SamplePeriod)
			if quotas.MaxAllocationsPerUser > 0 {
				another := b.client()
				another.use(c.credential)
				another.allocate() // replaces the first one, which has been idle
			}
			c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 486)
			for _, skipped := range []string{" skipped=0", " skipped=2"} {
				if got := strings.Count(log.String(), reason+skipped); got != 1 {
					t.Errorf("%d lines, want 1: %s%s\n%s", got, reason, skipped, log.String())
				}
			}
		})
	}
}
