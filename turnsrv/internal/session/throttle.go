package session

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/limit"
)

// direction is where a packet goes.
type direction uint8

const (
	toPeer direction = iota
	toClient
	numDirections
)

// Lengths of the headers of IP and UDP in bytes, which each packet costs besides its payload.
const (
	HeadersIPv4 = 20 + 8
	headersIPv6 = 40 + 8
)

// cost returns how many bytes a datagram of so many bytes of payload, to or from peer, takes on the wire.
func cost(payload int, peer netip.Addr) int {
	if peer.Is4() {
		return payload + HeadersIPv4
	}
	return payload + headersIPv6
}

// minBurst is the most that one packet needs, in bits.
const minBurst = 65536 * 8

// burst returns how many bits a bucket of so many a second holds: a second's worth, and not less than one datagram of any size.
// Media comes in bursts, and a limit is about what a call takes in the long run.
func burst(bps int64) int64 { return max(bps, minBurst) }

// rates are the buckets of an allocation in one direction. As in coturn a limit is that of each direction by itself.
type rates struct {
	bits, packets limit.Rate
	share         limit.Rate // of throttle.bits
}

// throttle bounds what all allocations together relay in one direction. An allocation that stays within its share, which is an
// equal part for each one that relays, passes in any case; what the others leave goes to whoever comes first. So one that takes
// all it can slows down nobody else.
type throttle struct {
	bits   limit.Rate
	active *atomic.Int64 // allocations that relay
}

// take reports whether so many bits of an allocation may pass, of perSecond for all. share is the allocation's.
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

// mayRelay reports whether a packet of payload bytes, to or from peer, is within the limits. Safe for concurrent use.
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

// beginShares has a new allocation without a share of its own until time has passed: it would be given what others have taken.
func (a *allocation) beginShares(s *Shared, now time.Time) {
	if total := s.limits.Load().MaxTotalBPS; total > 0 {
		for d := range a.rates {
			a.rates[d].share.Charge(burst(total), total, burst(total), now.Sub(s.start))
		}
	}
}
