package rough

import (
	"context"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
)

// row is a call on a network with a condition.
type row struct {
	condition string
	ends      [2]place
	size      int // of messages, in bytes
	roams     bool
	// delivered is the least share of the messages that has to arrive while nothing is done to the call.
	delivered float64
	// mayDie allows the call to die and continue with a new connection, which is recorded but not an error.
	mayDie bool
	// slow is how much longer than eventLimit the call may be interrupted.
	slow time.Duration
	// setUp makes the condition, and sees its control fail.
	setUp func(t *testing.T, r *run, c *call)
	// check checks that the condition was in effect.
	check func(t *testing.T, r *run, c *call)
}

// place is one end of a row.
type place struct {
	kind   string
	routes []route
	ipv6   bool // without IPv4
}

const (
	small = 160  // bytes, as 20 ms of speech have
	large = 1150 // bytes, with which a packet has nearly smallMTU
	// lossless is the least share without loss. A few messages are counted at one end and not yet at the other.
	lossless = 0.985
	// lossy is it where both routers lose packets: (1-loss)² would arrive, and some variance is allowed.
	lossy = 0.93
)

var (
	overUDP = []route{{relayIPv4, "udp"}}
	overTCP = []route{{relayIPv4, "tcp"}}
	overTLS = []route{{relayIPv4, "tls"}}
	// bothFamilies give relayed addresses of both families, since pion/turn asks for one of the family that the client has.
	bothFamilies = []route{{relayIPv4, "udp"}, {relayIPv6, "udp"}}
	everyWay     = []route{{relayIPv4, "udp"}, {relayIPv4, "tcp"}, {relayIPv4, "tls"}}
)

var rows = []*row{
	{
		condition: "2 % of all packets are lost, each way, at both ends", size: small, delivered: lossy,
		ends:  [2]place{{kind: "Chromium", routes: overUDP}, {kind: "Firefox", routes: overUDP}},
		setUp: func(t *testing.T, r *run, c *call) { c.lose(t) },
		check: func(t *testing.T, r *run, c *call) { c.lost(t) },
	},
	{
		condition: "the same, and the clients' outside addresses change in turn", size: small, delivered: lossy, roams: true,
		slow:  15 * time.Second, // until the timer T3-rtx of pion/sctp has expired at 31 s; see delays in the table
		setUp: func(t *testing.T, r *run, c *call) { c.lose(t) },
		ends:  [2]place{{kind: "pion", routes: overUDP}, {kind: "@roamhq/wrtc", routes: overUDP}},
		check: func(t *testing.T, r *run, c *call) {
			c.lost(t)
			for _, e := range c.ends {
				for _, address := range e.home.addresses() {
					if !r.relay.logged(address, `msg="allocation made"`) {
						t.Errorf("%s: the relay has had no allocation from %s", c, address)
					}
				}
			}
		},
	},
	{
		condition: "UDP to the clients is blocked", size: small, delivered: lossless,
		slow: 15 * time.Second, // until pion has given up on UDP: its offer waits for all candidates
		ends: [2]place{{kind: "pion", routes: everyWay}, {kind: "aiortc", routes: overTLS}},
		setUp: func(t *testing.T, r *run, c *call) {
			for _, e := range c.ends {
				e.home.blockUDP(t)
			}
			h := c.ends[0].home
			r.fails(t, "an allocation over UDP where UDP to the client is blocked", r.allocate(h, relayIPv4, "udp"), "retransmissions failed")
			if err := r.allocate(h, relayIPv4, "tcp"); err != nil {
				t.Errorf("over TCP: %v", err)
			}
		},
		check: func(t *testing.T, r *run, c *call) {
			h := c.ends[0].home
			if blocked := h.router.packets(t, "blocked"); blocked == 0 {
				t.Errorf("%s: no packet of UDP was blocked", c)
			}
			if !r.relay.logged(h.address(), `msg="allocation made"`, "transport=TCP") && !r.relay.logged(h.address(), `msg="allocation made"`, "transport=TLS") {
				t.Errorf("%s: no allocation over TCP or TLS from %s", c, h.address())
			}
		},
	},
	{
		condition: "one end has IPv6 alone, and a NAT64", size: small, delivered: lossless,
		ends: [2]place{{kind: "pion", routes: []route{{relayNAT64, "udp"}}, ipv6: true}, {kind: "pion", routes: bothFamilies}},
		setUp: func(t *testing.T, r *run, c *call) {
			h := c.ends[0].home
			r.fails(t, "an allocation at the relay's address in 2001:db8:64::/96 without the NAT64", r.allocate(h, relayNAT64, "udp"), "retransmissions failed")
			h.translate(t)
			if err := r.allocate(h, relayNAT64, "udp"); err != nil {
				t.Errorf("with the NAT64: %v", err)
			}
		},
		check: func(t *testing.T, r *run, c *call) {
			translated := c.ends[0].home.router.packets(t, "translated")
			if least := c.ends[0].sent + c.ends[0].received; translated < least {
				t.Errorf("%s: %d packets went through the NAT64, want %d", c, translated, least)
			}
			c.note("%d packets went through tayga", translated)
		},
	},
	{
		condition: "a link with an MTU of 1,280 bytes, and messages of 1,150", size: large, delivered: lossless,
		ends: [2]place{{kind: "pion", routes: overUDP}, {kind: "pion", routes: overUDP}},
		setUp: func(t *testing.T, r *run, c *call) {
			h := c.ends[0].home
			if err := h.fits(1300); err != nil {
				t.Errorf("a packet of 1300 bytes before: %v", err)
			}
			h.shrink(t)
			r.fails(t, "a packet of 1,300 bytes on a link with an MTU of 1,280", h.fits(1300), "message too long")
			if err := h.fits(smallMTU); err != nil {
				t.Errorf("a packet of %d bytes: %v", smallMTU, err)
			}
		},
		check: func(t *testing.T, r *run, c *call) {
			packets := c.ends[0].home.router.packets(t, "large")
			if least := c.ends[0].sent + c.ends[0].received; packets < least {
				t.Errorf("%s: %d packets had more than %d bytes, want %d", c, packets, largePacket, least)
			}
			c.note("%d packets had more than %d bytes", packets, largePacket)
		},
	},
	{
		condition: "UDP at one end and TCP at the other", size: small, delivered: lossless,
		ends: [2]place{{kind: "pion", routes: overUDP}, {kind: "pion", routes: overTCP}},
	},
	{
		// werift drops every unsigned answer to a signed request, 438 (Stale Nonce) too, and so cannot refresh its allocation once
		// the nonce has expired.
		condition: "none but the events", size: small, delivered: 0.9, mayDie: true,
		ends: [2]place{{kind: "werift", routes: overUDP}, {kind: "pion", routes: overUDP}},
	},
}

// lose has both routers lose packets.
func (c *call) lose(t *testing.T) {
	for _, e := range c.ends {
		e.home.lose(t)
	}
}

// lost checks that both routers have lost packets.
func (c *call) lost(t *testing.T) {
	for _, e := range c.ends {
		lost := e.home.router.packets(t, "lost")
		if lost < 10 {
			t.Errorf("%s: %d packets were lost", c, lost)
		}
		c.note("%d packets were lost at %s", lost, e.kind)
	}
}

// setUp makes the homes, the conditions and the parties of all rows.
func (r *run) setUp(t *testing.T) {
	for _, row := range rows {
		c := &call{row: row, relay: r.relay}
		for i, p := range row.ends {
			c.ends[i] = &end{kind: p.kind, routes: p.routes, home: r.network.newHome(t, !p.ipv6)}
		}
		r.calls = append(r.calls, c)
	}
	if t.Failed() {
		return
	}
	var err error
	if r.first, err = r.plain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.issued = time.Now()
	for _, c := range r.calls {
		if c.row.setUp != nil {
			c.row.setUp(t, r, c)
		}
		for _, e := range c.ends {
			agent, err := kinds[e.kind].start(t, e.home, c.row.size)
			if err != nil {
				t.Fatalf("start %s: %v", e.kind, err)
			}
			e.agent = agent
			t.Cleanup(func() { e.close(t) })
		}
	}
}

// plain fetches a credential in the relay's own namespace, where no condition is in the way.
func (r *run) plain(ctx context.Context) (party.Server, error) {
	return (&home{number: 0, client: r.network.relay}).credential(ctx, overUDP...)
}

// allocate has a client try to get a relayed address, with a credential that works.
func (r *run) allocate(h *home, address, transport string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	credential, err := r.plain(ctx)
	if err != nil {
		return err
	}
	return h.allocate(ctx, route{address, transport}, credential)
}
