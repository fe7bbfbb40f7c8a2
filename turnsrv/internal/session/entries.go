package session

import (
	"net/netip"
	"time"
)

// hasRoom reports whether the allocation has room for permissions for all addresses in wanted and for the given number of
// additional channels.
func (s *Session) hasRoom(a *allocation, wanted []netip.AddrPort, channels int, now time.Time) bool {
	if s.fits(a, len(wanted), channels, now) {
		return true
	}
	missing := make(map[netip.Addr]bool, len(wanted))
	for _, peer := range wanted {
		if a.peers.permissions.get(peer.Addr()) == nil {
			missing[peer.Addr()] = true
		}
	}
	return s.fits(a, len(missing), channels, now)
}

// Limits on the permissions and channels of all allocations of a server together. Each takes about 150 bytes. The first
// ownEntries of each allocation are not counted, so that every client can have a few.
const (
	maxEntries = 1 << 18
	ownEntries = 32
)

// fits reports whether there is room for the given numbers of additional permissions and channels. If there is not, it first
// removes expired ones.
func (s *Session) fits(a *allocation, permissions, channels int, now time.Time) bool {
	most := s.shared.limits.Load()
	fits := func() bool {
		wanted := permissions + channels
		return a.peers.permissions.len()+permissions <= most.MaxPermissions && a.peers.channels.len()+channels <= most.MaxChannels &&
			(a.peers.len()+wanted <= ownEntries || s.shared.entries.Load()+int64(wanted) <= maxEntries)
	}
	if fits() {
		return true
	}
	if at := now.Sub(s.shared.start); at >= a.peers.sweepAt {
		a.peers.sweepAt = at + sweepPeriod
		a.peers.sweep(now)
		s.count(a)
	}
	return fits()
}

// count updates the server's total with the permissions and channels that this allocation has beyond ownEntries.
func (s *Session) count(a *allocation) {
	beyond := max(a.peers.len()-ownEntries, 0)
	s.shared.entries.Add(int64(beyond - a.peers.counted))
	a.peers.counted = beyond
}
