package session

import (
	"net/netip"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/limit"
)

// SilentPeriod is the time for which Config.SilentPeerBytes is a budget.
//
// A relay lends its address, and a peer that never answers has not asked for what it gets. An agent's connectivity checks before
// the first answer are paced, RFC 8445 section 14: one each 50 ms, of 168 bytes or so on the wire, makes 34 kB in ten seconds even
// if all of them go to one address. Media follows an answer to a check, and consent (RFC 7675) keeps the answers coming when the
// peer sends no media of its own.
const SilentPeriod = 10 * time.Second

// What goes to silent peers besides, in budgets of one peer address of one allocation. Somebody with many allocations, or many
// addresses in one network, would have the budget as often.
const (
	silentOfAllocation = 8  // from one allocation to all of them
	silentOfHost       = 4  // from all allocations to one address, or one /64 of IPv6
	silentOfNetwork    = 16 // from all allocations to one network, as limit.Network has it
)

// silentSpending is what went to peers that have not answered, in the period that began at since.
type silentSpending struct {
	since time.Time
	spent int // bytes, headers of IP and UDP included
}

// spend counts size bytes and reports true if no more than budget went in the period with them, and counts nothing otherwise.
func (s *silentSpending) spend(size, budget int, now time.Time) bool {
	if passed := now.Sub(s.since); passed >= SilentPeriod || passed < 0 {
		*s = silentSpending{since: now}
	}
	if s.spent+size > budget {
		return false
	}
	s.spent += size
	return true
}

// silentPeers is what goes to silent peers from all allocations of a server together. Safe for concurrent use.
type silentPeers struct {
	budget int // of one peer address of one allocation; negative is no limit

	mu              sync.Mutex     // guards what follows
	hosts, networks *limit.Sources // a token is a byte; nil before the first one
}

// spend counts size bytes that are to go to addr and reports true if they may.
func (s *silentPeers) spend(addr netip.Addr, size int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hosts == nil {
		s.hosts = newSilentLimit(silentOfHost*s.budget, now)
		s.networks = newSilentLimit(silentOfNetwork*s.budget, now)
	}
	return s.hosts.Take(limit.Host(addr), size, now) && s.networks.Take(limit.Network(addr), size, now)
}

// newSilentLimit returns a limit of so many bytes in a SilentPeriod.
func newSilentLimit(bytes int, now time.Time) *limit.Sources {
	return limit.NewSources(max(SilentPeriod/time.Duration(max(bytes, 1)), 1), bytes, now)
}

// mayGo reports whether size bytes may go to peer, of which p is known, and counts them if it has never answered. It is for the
// goroutine of the session.
func (a *allocation) mayGo(p *permission, peer netip.Addr, size int, now time.Time) bool {
	all := &a.session.shared.silentPeers
	if all.budget < 0 || p.heard.Load() {
		return true
	}
	return p.silent.spend(size, all.budget, now) && a.silent.spend(size, silentOfAllocation*all.budget, now) &&
		all.spend(peer, size, now)
}
