package session

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/kernel"
)

// Kernel relays the packets of bound channels without the session. It is a cache: packets may come to the session at any time, and
// are relayed as if there were no Kernel. Safe for concurrent use.
type Kernel interface {
	// Relay begins to relay the packets of a channel. The routes of b are set by Relay; the address of b.Relay may be unspecified.
	Relay(b kernel.Binding, now time.Time) (KernelChannel, error)
}

// KernelChannel is a channel that a Kernel relays. *kernel.Channel implements it.
type KernelChannel interface {
	// Counts returns what was relayed in each direction, and End, after which nothing is relayed any more, the final counts.
	Counts() (toPeer, toClient kernel.Counts)
	End(now time.Time) (toPeer, toClient kernel.Counts)
	// Extend changes the expiry.
	Extend(until, now time.Time)
	// SetLimits changes the limits of each direction.
	SetLimits(toPeer, toClient kernel.Limit)
	// Disabled reports whether the kernel has stopped relaying by itself. The session then calls End.
	Disabled() bool
}

const (
	// offloadAgain is how long after Kernel.Relay has failed it is tried again.
	offloadAgain = 10 * time.Second
	// An allocation may give offloadRate channels a second to the kernel, and offloadBurst at once, because each takes system calls.
	// A call has one to three.
	offloadRate  = 4
	offloadBurst = 16
)

// offloaded is a channel that the kernel relays. Owned by the goroutine of the session.
type offloaded struct {
	channel          KernelChannel
	address          *relayedAddress
	toPeer, toClient kernel.Counts // of what has been counted already

	// judged is when quiet last judged the channel, and judgedAt how many packets the client had sent by then.
	judged   time.Time
	judgedAt uint64
}

// offload makes the kernel relay the packets of a channel. It is called when the client uses the channel.
//
// A peer that has not answered yet stays with the session, which limits what it gets: see mayGo. Only datagram clients can be
// offloaded.
func (s *Session) offload(a *allocation, c *channelBinding, address *relayedAddress, now time.Time) {
	k := s.shared.config.Kernel
	if k == nil || c.offloaded != nil || now.Before(c.offloadAt) || a.client.Tuple.Transport != event.UDP || !c.permission.heard.Load() {
		return
	}
	if s.shared.limits.Load().MaxCallsPerUser > 0 && a.call.state.Load() != inCall {
		return // the kernel does not know what is a check of ICE
	}
	c.offloadAt = now.Add(offloadAgain)
	bound, ok := address.conn.LocalAddr().(*net.UDPAddr)
	if _, allowed := s.shared.config.Relay.MayReach(c.peer); !ok || !allowed {
		return // relay.Conn checks every packet, the kernel does not
	}
	b := kernel.Binding{
		Client: a.client.Tuple.Client, Server: a.client.Tuple.Server, Number: c.number, Peer: c.peer,
		Relay: bound.AddrPort(), Local: s.shared.config.Relay.Owns(c.peer.Addr()), Until: c.until(address, now),
		Share: &a.account.kernel,
	}
	if b.Local {
		b.Relay = address.conn.Relayed()
	}
	b.LimitTo = a.kernelLimit()
	b.LimitFrom = b.LimitTo
	if !a.offloads.Take(1, offloadRate, offloadBurst, now.Sub(s.shared.start)) {
		return
	}
	channel, err := k.Relay(b, now)
	if err != nil {
		return // the session goes on
	}
	c.offloaded = &offloaded{channel: channel, address: address, judged: now}
	s.shared.Counters.KernelChannels.Add(1)
}

// until returns when the kernel must stop relaying a channel by itself.
func (c *channelBinding) until(address *relayedAddress, now time.Time) time.Time {
	if expires := address.allocation.session.shared.moment(address.expires, now); expires.Before(c.expires) {
		return expires
	}
	return c.expires
}

// kernelLimit returns what the kernel may relay for one channel without asking. The session counts it against the same limits, so
// more packets than that come to the session, which relays or drops them.
func (a *allocation) kernelLimit() kernel.Limit {
	s := a.session.shared
	most := s.limits.Load()
	limit := kernel.Limit{Bits: most.MaxBPS, Packets: least(most.MaxPPS, most.MaxPPSPerUser)}
	if most.MaxTotalBPS > 0 {
		limit.Bits = least(limit.Bits, max(most.MaxTotalBPS/max(s.active.Load(), 1), 1))
	}
	if channels := int64(max(a.peers.channels.len(), 1)); channels > 1 {
		limit.Bits, limit.Packets = part(limit.Bits, channels), part(limit.Packets, channels)
	}
	if limit.PacketBurst = limit.Packets; limit.Bits > 0 {
		limit.BitBurst = burst(limit.Bits)
	}
	return limit
}

// least returns the smaller one of two limits, of which zero is none.
func least(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// part returns one of n parts of a limit, of which zero is none.
func part(limit, n int64) int64 {
	if limit == 0 {
		return 0
	}
	return max(limit/n, 1)
}

// sweepKernel counts what the kernel has relayed for an allocation, and renews its limits and expiry.
func (a *allocation) sweepKernel(now time.Time) {
	if a.session.shared.config.Kernel == nil {
		return
	}
	limit := a.kernelLimit()
	for _, c := range a.peers.channels.all() {
		o := c.offloaded
		if o == nil {
			continue
		}
		if o.channel.Disabled() {
			c.endOffload(now)
			continue
		}
		toPeerCounts, toClientCounts := o.channel.Counts()
		o.count(toPeerCounts, toClientCounts, c.peer.Addr(), now)
		if o.quiet(now) {
			c.endOffload(now)
			continue
		}
		o.channel.SetLimits(limit, limit)
		o.channel.Extend(c.until(o.address, now), now)
	}
}

// quiet reports whether the client sends so little that it may be only the checks of ICE, which do not keep a call: the session has to
// look at the packets again.
func (o *offloaded) quiet(now time.Time) bool {
	a, period := o.address.allocation, now.Sub(o.judged)
	if a.session.shared.limits.Load().MaxCallsPerUser == 0 || period < JanitorPeriod {
		return false
	}
	packets := o.toPeer.Packets - o.judgedAt
	o.judged, o.judgedAt = now, o.toPeer.Packets
	if float64(packets) < checkRate*period.Seconds() {
		return true
	}
	a.call.hear(now.Sub(a.session.shared.start))
	return false
}

// endOffload makes the kernel stop relaying a channel.
func (c *channelBinding) endOffload(now time.Time) {
	if o := c.offloaded; o != nil {
		c.offloaded = nil
		o.address.allocation.session.shared.Counters.KernelChannels.Add(-1)
		toPeerCounts, toClientCounts := o.channel.End(now)
		o.count(toPeerCounts, toClientCounts, c.peer.Addr(), now)
	}
}

// count counts what the kernel has relayed since the last call, as if the session had relayed it.
func (o *offloaded) count(to, from kernel.Counts, peer netip.Addr, now time.Time) {
	a := o.address.allocation
	counters := a.session.shared.Counters
	packets, bytes := to.Packets-o.toPeer.Packets, to.Bytes-o.toPeer.Bytes
	if packets > 0 {
		a.silence.Hear(now.Sub(a.session.shared.start))
		o.address.toPeer.AddAll(packets, bytes)
		counters.ToPeer.AddAll(packets, bytes)
		counters.KernelToPeer.AddAll(packets, bytes)
		a.charge(toPeer, packets, bytes, peer, now)
	}
	packets, bytes = from.Packets-o.toClient.Packets, from.Bytes-o.toClient.Bytes
	if packets > 0 {
		o.address.toClient.AddAll(packets, bytes)
		counters.ToClient.AddAll(packets, bytes)
		counters.KernelToClient.AddAll(packets, bytes)
		a.charge(toClient, packets, bytes, peer, now)
	}
	o.toPeer, o.toClient = to, from
}

// charge takes what the kernel has relayed from the limits, as mayRelay does for a packet.
func (a *allocation) charge(d direction, packets, bytes uint64, peer netip.Addr, now time.Time) {
	s := a.session.shared
	most := s.limits.Load()
	if most.Unlimited() {
		return
	}
	at, bits := now.Sub(s.start), int64(bytes+packets*uint64(cost(0, peer)))*8
	own := &a.rates[d]
	own.packets.Charge(int64(packets), most.MaxPPS, most.MaxPPS, at)
	a.account.packets[d].Charge(int64(packets), most.MaxPPSPerUser, most.MaxPPSPerUser, at)
	own.bits.Charge(bits, most.MaxBPS, burst(most.MaxBPS), at)
	if most.MaxTotalBPS > 0 {
		fair := max(most.MaxTotalBPS/max(s.active.Load(), 1), 1)
		own.share.Charge(bits, fair, burst(fair), at)
		s.throttles[d].bits.Charge(bits, most.MaxTotalBPS, burst(most.MaxTotalBPS), at)
	}
}

// WithdrawKernel makes the kernel relay nothing that it relays now, after the policy about peers or the limits have changed. Channels
// that are still in use and allowed return to it. It must not be called on the goroutine of a session. Safe for concurrent use.
func (s *Shared) WithdrawKernel(ctx context.Context) error {
	if s.config.Kernel == nil {
		return nil
	}
	return s.visit(ctx, func(a *allocation, now time.Time) {
		for _, c := range a.peers.channels.all() {
			c.endOffload(now)
		}
	})
}
