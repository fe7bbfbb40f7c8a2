package session

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/limit"
)

// direction is the direction in which a packet is relayed.
type direction uint8

const (
	toPeer direction = iota
	toClient
	numDirections
)

// Lengths of the IP and UDP headers in bytes, which each packet has in addition to its payload.
const (
	HeadersIPv4 = 20 + 8
	headersIPv6 = 40 + 8
)

// cost returns the size on the wire, in bytes, of a datagram to or from peer.
func cost(payload int, peer netip.Addr) int {
	if peer.Is4() {
		return payload + HeadersIPv4
	}
	return payload + headersIPv6
}

// minBurst is the size of the largest packet, in bits.
const minBurst = 65536 * 8

// burst returns the capacity in bits of a bucket with the given rate: one second's worth, but at least one datagram of maximum
// size. Media arrives in bursts, and a limit concerns the long-term rate of a call.
func burst(bps int64) int64 { return max(bps, minBurst) }

// rates are the token buckets of an allocation in one direction. As in coturn, a limit applies to each direction separately.
type rates struct {
	bits, packets limit.Rate
	share         limit.Rate // of throttle.bits
}

// throttle limits what all allocations together relay in one direction. An allocation is never limited while it stays within
// its share, which is an equal part for each allocation that relays. Unused capacity is available to all on a first-come basis.
// An allocation that takes all it can get therefore does not slow down the others.
type throttle struct {
	bits   limit.Rate
	active *atomic.Int64 // number of allocations that relay
}

// take reports whether an allocation may relay the given bits, with a total limit of perSecond. share is the bucket of the
// allocation.
func (t *throttle) take(bits, perSecond int64, share *limit.Rate, now time.Duration) bool {
	if perSecond == 0 {
		return true
	}
	fair := max(perSecond/max(t.active.Load(), 1), 1)
	if share.Take(bits, fair, burst(fair), now) {
		t.bits.Charge(bits, perSecond, burst(perSecond), now)
		return true
	}
	return t.bits.Take(bits, perSecond, burst(perSecond), now)
}

// mayRelay reports whether a packet with payload bytes of data, to or from peer, is within the limits. Safe for concurrent use.
func (a *allocation) mayRelay(d direction, payload int, peer netip.Addr, now time.Time) bool {
	s := a.session.shared
	most := s.limits.Load()
	if most.Unlimited() {
		return true
	}
	at, bits := now.Sub(s.start), int64(cost(payload, peer))*8
	own, account := &a.rates[d], &a.account.packets[d]
	if !own.packets.Take(1, most.MaxPPS, most.MaxPPS, at) ||
		!account.Take(1, most.MaxPPSPerUser, most.MaxPPSPerUser, at) ||
		!own.bits.Take(bits, most.MaxBPS, burst(most.MaxBPS), at) {
		return false
	}
	if !s.throttles[d].take(bits, most.MaxTotalBPS, &own.share, at) {
		own.bits.Give(bits, most.MaxBPS)
		return false
	}
	return true
}

// beginShares empties the share of a new allocation: a full one would be capacity that others have already used.
func (a *allocation) beginShares(s *Shared, now time.Time) {
	if total := s.limits.Load().MaxTotalBPS; total > 0 {
		for d := range a.rates {
			a.rates[d].share.Charge(burst(total), total, burst(total), now.Sub(s.start))
		}
	}
}
