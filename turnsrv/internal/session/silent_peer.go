package session

import (
	"net/netip"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/limit"
)

// SilentPeriod is the period of the budget Config.SilentPeerBytes.
//
// A peer that never answers has not asked for the data that the relay sends it. Connectivity checks before the first answer are
// paced, RFC 8445 section 14: one every 50 ms, about 168 bytes each on the wire, is 34 kB in ten seconds even if all of them go
// to one address. Media follows the answer to a check, and consent checks (RFC 7675) continue to be answered when the peer
// sends no media.
const SilentPeriod = 10 * time.Second

// Further limits on traffic to silent peers, in multiples of the budget of one peer address of one allocation. Without them, a
// user with many allocations, or with many addresses in one network, would have as many budgets.
const (
	silentOfAllocation = 8  // from one allocation to all its silent peers
	silentOfHost       = 4  // from all allocations to one IPv4 address or IPv6 /64
	silentOfNetwork    = 16 // from all allocations to one network, as defined by limit.Network
)

// silentSpending is the traffic to peers that have not answered, in the period that began at since.
type silentSpending struct {
	since time.Duration // since Shared.start
	spent int           // bytes, including IP and UDP headers
}

// spend counts size bytes and reports true if the total of the period stays within budget. Otherwise it counts nothing.
func (s *silentSpending) spend(size, budget int, at time.Duration) bool {
	if s.spent == 0 || at-s.since >= SilentPeriod {
		*s = silentSpending{since: at}
	}
	if s.spent+size > budget {
		return false
	}
	s.spent += size
	return true
}

// silentPeers limits the traffic to silent peers from all allocations of a server. Safe for concurrent use.
type silentPeers struct {
	budget int // for one peer address of one allocation; negative means no limit

	mu              sync.Mutex     // guards what follows
	hosts, networks *limit.Sources // one token per byte; nil before the first use
}

// spend counts size bytes for addr and reports whether they may be sent.
func (s *silentPeers) spend(addr netip.Addr, size int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hosts == nil {
		s.hosts = newSilentLimit(silentOfHost*s.budget, now)
		s.networks = newSilentLimit(silentOfNetwork*s.budget, now)
	}
	return s.hosts.Take(limit.Host(addr), size, now) && s.networks.Take(limit.Network(addr), size, now)
}

// newSilentLimit returns a limit of the given number of bytes per SilentPeriod.
func newSilentLimit(bytes int, now time.Time) *limit.Sources {
	return limit.NewSources(max(SilentPeriod/time.Duration(max(bytes, 1)), 1), bytes, now)
}

// mayGo reports whether size bytes may be sent to peer, whose permission is p. It counts them if the peer has never answered.
// It is called by the goroutine of the session.
func (a *allocation) mayGo(p *permission, peer netip.Addr, size int, now time.Time) bool {
	all := &a.session.shared.silentPeers
	if all.budget < 0 || p.heard.Load() {
		return true
	}
	at := now.Sub(a.session.shared.start)
	return p.silent.spend(size, all.budget, at) && a.silent.spend(size, silentOfAllocation*all.budget, at) &&
		all.spend(peer, size, now)
}
