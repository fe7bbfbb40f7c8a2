package session

import (
	"errors"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/kernel"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// recordingKernel records what it is told.
type recordingKernel struct {
	err      error
	channels []*recordingChannel
}

type recordingChannel struct {
	kernel.Binding
	toPeer, toClient kernel.Counts
	disabled, ended  bool
	atEnd            func()
}

func (k *recordingKernel) Relay(b kernel.Binding, _ time.Time) (KernelChannel, error) {
	if k.err != nil {
		return nil, k.err
	}
	c := &recordingChannel{Binding: b, atEnd: func() {}}
	k.channels = append(k.channels, c)
	return c, nil
}

func (c *recordingChannel) Counts() (toPeer, toClient kernel.Counts) { return c.toPeer, c.toClient }
func (c *recordingChannel) End(time.Time) (toPeer, toClient kernel.Counts) {
	c.ended = true
	c.atEnd()
	return c.toPeer, c.toClient
}
func (c *recordingChannel) Disabled() bool                  { return c.disabled }
func (c *recordingChannel) Extend(until, _ time.Time)       { c.Until = until }
func (c *recordingChannel) SetLimits(to, from kernel.Limit) { c.LimitTo, c.LimitFrom = to, from }

// offloading is a session with a kernel, and an allocation with a channel whose peer has answered.
type offloading struct {
	*bareSession
	*signer
	kernel recordingKernel
	peer   netip.AddrPort
	events []event.Event
}

func newOffloading(t *testing.T, quotas limit.Quotas, now time.Time) *offloading {
	t.Helper()
	o := &offloading{bareSession: newBareSession(t), peer: turntest.PublicPeer}
	o.shared.config.Kernel = &o.kernel
	o.shared.config.OnEvent = func(e event.Event) { o.events = append(o.events, e) }
	o.shared.SetQuotas(limited(quotas))
	o.signer = newSigner(o.bareSession, now)
	o.from.Tuple.Server = netip.MustParseAddrPort("127.0.0.1:3478")
	o.nonce = o.shared.nonces.appendNonce(nil, o.from.Tuple, now)
	o.take(o.message(stun.MethodAllocate, 1, turntest.TransportUDP, turntest.Lifetime(3600)), o.from, now)
	o.bind(now)
	return o
}

func (o *offloading) bind(now time.Time) {
	o.take(o.message(stun.MethodChannelBind, byte(len(o.events)), turntest.Channel(0x4000), turntest.PeerAddr(o.peer)), o.from, now)
}

func (o *offloading) send(now time.Time) { o.take(turntest.ChannelData(0x4000, "hello"), o.from, now) }

func (o *offloading) hear(now time.Time) {
	o.allocations.get(o.from).addresses[0].Deliver(o.peer, []byte("answer"), now)
}

// meanwhile calls f on another goroutine, which asks the session for something.
func (o *offloading) meanwhile(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			o.callAsked(time.Unix(1758650869, 0), false)
			runtime.Gosched()
		}
	}
}

// live returns the channel that the kernel relays, or nil.
func (o *offloading) live() *recordingChannel {
	for _, c := range o.kernel.channels {
		if !c.ended {
			return c
		}
	}
	return nil
}

// TestOffload checks that the kernel gets a channel once the peer has answered and the client uses it, with the addresses on the
// wire, and that the client's ChannelBind extends it.
func TestOffload(t *testing.T) {
	now := time.Unix(1758650868, 0)
	o := newOffloading(t, limit.Quotas{}, now)
	o.send(now)
	if o.live() != nil {
		t.Fatal("the kernel relays to a peer that has not answered")
	}
	o.hear(now)
	o.kernel.err = errors.New("full")
	o.send(now)
	o.kernel.err = nil
	o.send(now.Add(offloadAgain - 1))
	if o.live() != nil {
		t.Fatal("tried again at once")
	}
	now = now.Add(offloadAgain)
	o.send(now)
	o.send(now)
	if len(o.kernel.channels) != 1 {
		t.Fatalf("the kernel relays %d channels, want 1", len(o.kernel.channels))
	}
	a := o.allocations.get(o.from)
	want := kernel.Binding{
		Client: o.from.Tuple.Client, Server: o.from.Tuple.Server, Number: 0x4000, Relay: a.addresses[0].conn.Relayed(), Peer: o.peer,
		Until: a.peers.channels.get(0x4000).expires, Share: &a.account.kernel,
	}
	if got := o.live().Binding; got != want {
		t.Errorf("the kernel relays %+v, want %+v", got, want)
	}
	now = now.Add(time.Minute)
	o.bind(now)
	if got := o.live().Until; !got.Equal(now.Add(ChannelLifetime)) {
		t.Errorf("bound until %v", got)
	}
	if len(o.kernel.channels) != 1 {
		t.Errorf("bound again as another channel")
	}
	// An allocation that ends before its channel takes it along on time.
	o.take(o.message(stun.MethodRefresh, 9, turntest.Lifetime(600)), o.from, now)
	a.addresses[0].expires = now.Add(time.Second).Sub(o.shared.start)
	o.janitor(now)
	if got := o.live().Until; !got.Equal(now.Add(time.Second)) {
		t.Errorf("the kernel relays until %v after the allocation has expired", got)
	}
}

// TestOffloadLocal checks that a channel to a relayed address of the same server has advertised addresses, at which the two clients'
// channels find each other.
func TestOffloadLocal(t *testing.T) {
	now := time.Unix(1758650868, 0)
	o := newOffloading(t, limit.Quotas{}, now)
	o.peer = netip.MustParseAddrPort("127.0.0.1:40000")
	a := o.allocations.get(o.from)
	a.peers.bind(0x4001, o.peer, true, now)
	o.take(turntest.ChannelData(0x4001, "hello"), o.from, now)
	c := o.live()
	if c == nil || !c.Local || c.Peer != o.peer || c.Relay != a.addresses[0].conn.Relayed() {
		t.Errorf("the kernel relays %+v", c)
	}
}

// TestOffloadRate has a client bind channels as fast as it can: the kernel gets some of them at once, and the others later.
func TestOffloadRate(t *testing.T) {
	now := time.Unix(1758650868, 0)
	o := newOffloading(t, limit.Quotas{}, now)
	a := o.allocations.get(o.from)
	const channels = 40
	send := func() {
		for i := range uint16(channels) {
			o.take(turntest.ChannelData(0x4001+i, "hello"), o.from, now)
		}
	}
	for i := range uint16(channels) {
		a.peers.bind(stun.ChannelNumber(0x4001+i), netip.AddrPortFrom(o.peer.Addr(), 50000+i), true, now)
	}
	o.hear(now)
	send()
	if n := len(o.kernel.channels); n != offloadBurst {
		t.Errorf("%d channels at once, want %d", n, offloadBurst)
	}
	for range 3 {
		now = now.Add(offloadAgain)
		send()
	}
	if n := len(o.kernel.channels); n != channels {
		t.Errorf("%d channels in the end, want %d", n, channels)
	}
}

// TestOffloadStreams leaves clients with a connection to their connection.
func TestOffloadStreams(t *testing.T) {
	now := time.Unix(1758650868, 0)
	o := newOffloading(t, limit.Quotas{}, now)
	a := o.allocations.get(o.from)
	o.allocations.remove(a)
	o.from.Tuple.Transport = event.DTLS
	a.client = o.from
	o.allocations.add(a)
	o.hear(now)
	o.send(now)
	if o.live() != nil {
		t.Error("the kernel relays what is encrypted")
	}
}

// TestOffloadCounts checks that what the kernel relays counts as if the session had relayed it: in counters, for idle clients, and
// in the event of the end, exactly.
func TestOffloadCounts(t *testing.T) {
	now := time.Unix(1758650868, 0)
	o := newOffloading(t, limit.Quotas{}, now)
	o.hear(now)
	o.send(now)
	c, a := o.live(), o.allocations.get(o.from)
	toPeer, toClient := a.addresses[0].toPeer.Snapshot(), a.addresses[0].toClient.Snapshot()
	add := func(t *event.Traffic, k *kernel.Counts, packets, bytes uint64) {
		k.Packets, k.Bytes, t.Packets, t.Bytes = k.Packets+packets, k.Bytes+bytes, t.Packets+packets, t.Bytes+bytes
	}
	check := func(what string, gotTo, gotFrom event.Traffic) {
		t.Helper()
		if gotTo != toPeer || gotFrom != toClient {
			t.Errorf("%s: %v and %v, want %v and %v", what, gotTo, gotFrom, toPeer, toClient)
		}
	}
	for range 3 {
		now = now.Add(20 * time.Second)
		add(&toPeer, &c.toPeer, 100, 16000)
		add(&toClient, &c.toClient, 50, 60000)
		o.janitor(now)
		check("address", a.addresses[0].toPeer.Snapshot(), a.addresses[0].toClient.Snapshot())
		check("server", o.shared.Counters.ToPeer.Snapshot(), o.shared.Counters.ToClient.Snapshot())
		if got := o.shared.Counters.KernelToPeer.Snapshot(); got != event.Traffic(c.toPeer) {
			t.Errorf("kernel: %v, want %v", got, c.toPeer)
		}
		if got := o.shared.Counters.KernelToClient.Snapshot(); got != event.Traffic(c.toClient) {
			t.Errorf("kernel: %v, want %v", got, c.toClient)
		}
		if silent := a.silence.For(now.Sub(o.shared.start)); silent != 0 || !a.counted {
			t.Errorf("the client has been silent for %v", silent)
		}
	}
	add(&toPeer, &c.toPeer, 7, 70)
	add(&toClient, &c.toClient, 3, 30)
	o.take(o.message(stun.MethodRefresh, 9, turntest.Lifetime(0)), o.from, now)
	last := o.events[len(o.events)-1]
	if last.Kind != event.AllocationEnded {
		t.Fatalf("event %v", last.Kind)
	}
	check("the event of the end", last.ToPeer, last.ToClient)
	check("server after the end", o.shared.Counters.ToPeer.Snapshot(), o.shared.Counters.ToClient.Snapshot())
}

// TestOffloadEnds checks that the kernel stops before the port of the relayed address can belong to somebody else, whatever ends the
// channel.
func TestOffloadEnds(t *testing.T) {
	for name, end := range map[string]func(*offloading, time.Time){
		"refresh": func(o *offloading, now time.Time) {
			o.take(o.message(stun.MethodRefresh, 9, turntest.Lifetime(0)), o.from, now)
		},
		"expiry": func(o *offloading, now time.Time) { o.janitor(now.Add(time.Hour)) },
		"server": func(o *offloading, now time.Time) { o.End(now) },
		"client": func(o *offloading, now time.Time) { o.Gone(o.from, now) },
		"another": func(o *offloading, now time.Time) {
			o.allocations.get(o.from).peers.bind(0x4000, netip.MustParseAddrPort("127.0.0.1:40001"), true, now.Add(ChannelLifetime))
		},
		"a new policy": func(o *offloading, _ time.Time) {
			o.meanwhile(t, func() error { return o.shared.WithdrawKernel(t.Context()) })
		},
		"operator": func(o *offloading, _ time.Time) {
			o.meanwhile(t, func() error {
				_, err := o.shared.Inspect(t.Context(), func(event.Allocation) bool { return true })
				return err
			})
		},
		"the kernel": func(o *offloading, now time.Time) {
			o.live().disabled = true
			o.janitor(now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1758650868, 0)
			o := newOffloading(t, limit.Quotas{}, now)
			o.hear(now)
			o.send(now)
			c := o.live()
			if c == nil {
				t.Fatal("the kernel does not relay")
			}
			relayed := o.allocations.get(o.from).addresses[0].conn.Relayed()
			c.atEnd = func() {
				if _, ok := o.shared.config.Relay.MayReach(relayed); !ok {
					t.Error("the socket was closed before")
				}
			}
			end(o, now)
			if !c.ended {
				t.Error("the kernel still relays")
			}
			if n := o.shared.Counters.KernelChannels.Load(); n != 0 {
				t.Errorf("%d channels are counted", n)
			}
		})
	}
}

// TestOffloadLimits checks that what the kernel relays is taken from the limits, and that channels and allocations share them.
func TestOffloadLimits(t *testing.T) {
	now := time.Unix(1758650868, 0)
	quotas := limit.Quotas{MaxBPS: 8_000_000, MaxPPS: 1000, MaxPPSPerUser: 900, MaxTotalBPS: 4_000_000}
	o := newOffloading(t, quotas, now)
	now = now.Add(10 * time.Second) // the share of a new allocation is empty
	o.hear(now)
	o.send(now)
	want := kernel.Limit{Bits: 4_000_000, BitBurst: 4_000_000, Packets: 900, PacketBurst: 900}
	c := o.live()
	if c.LimitTo != want || c.LimitFrom != want {
		t.Errorf("limits %+v and %+v, want %+v", c.LimitTo, c.LimitFrom, want)
	}
	c.toPeer = kernel.Counts{Packets: 2000, Bytes: 10}
	o.janitor(now)
	before := o.dropped(event.DropBandwidth)
	o.send(now)
	if o.dropped(event.DropBandwidth) != before+1 {
		t.Error("the session relays although the kernel has used up the limit")
	}
	o.shared.SetQuotas(limited(limit.Quotas{MaxBPS: 1000}))
	o.janitor(now)
	if want = (kernel.Limit{Bits: 1000, BitBurst: minBurst}); c.LimitTo != want {
		t.Errorf("limits %+v, want %+v", c.LimitTo, want)
	}
	o.take(o.message(stun.MethodChannelBind, 77, turntest.Channel(0x4001), turntest.PeerAddr(netip.MustParseAddrPort("127.0.0.1:40001"))), o.from, now)
	o.janitor(now)
	if want.Bits = 500; c.LimitTo != want {
		t.Errorf("limits of one of two channels %+v, want %+v", c.LimitTo, want)
	}
}

// TestCallInKernel checks that a call goes on while the kernel relays it, but ends if its client sends only checks of ICE, as on the pair of
// a network that it has left. The kernel cannot tell these from media, so the session has to look.
func TestCallInKernel(t *testing.T) {
	now := time.Unix(1758650868, 0)
	o := newOffloading(t, limit.Quotas{MaxCallsPerUser: 1}, now)
	o.hear(now)
	o.send(now)
	c, a := o.live(), o.allocations.get(o.from)
	if c == nil {
		t.Fatal("the kernel does not relay a call")
	}
	for range 60 {
		now = now.Add(time.Second)
		c.toPeer.Packets += 50
		o.janitor(now)
	}
	if c.ended || a.call.state.Load() != inCall {
		t.Fatalf("the kernel has stopped: %t; state %d, want a call", c.ended, a.call.state.Load())
	}
	for range 2 * awayAfter / time.Second {
		now = now.Add(time.Second)
		if live := o.live(); live != nil {
			live.toPeer.Packets++
		} else {
			o.take(turntest.ChannelData(0x4000, string(iceCheck)), o.from, now)
		}
		o.janitor(now)
	}
	if o.live() != nil || a.call.state.Load() != noCall {
		t.Errorf("the kernel relays: %t; state %d, want no call", o.live() != nil, a.call.state.Load())
	}
	o.send(now)
	if a.call.state.Load() != inCall || o.live() == nil {
		t.Error("the call does not go on")
	}
}
