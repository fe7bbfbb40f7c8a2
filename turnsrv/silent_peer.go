package turnsrv

import (
	"sync/atomic"
	"time"
)

// silentPeriod is the time for which Config.SilentPeerBytes is a budget.
const silentPeriod = 10 * time.Second

// permission is one peer address that may send to the client, RFC 8656 section 9, and what went to it while it did not.
//
// A relay lends its address, and a peer that never answers has not asked for what comes to it. An agent's connectivity
// checks before the first answer are paced, RFC 8445 section 14: one each 50 ms, of some 140 bytes with UDP's and the
// relay's part left out, is 28 kB in ten seconds even if all of them go to one address. Media follows an answer to a check, and
// consent (RFC 7675) keeps the answers coming when the peer sends no media of its own.
type permission struct {
	expires  time.Time   // guarded by allocation.mu
	channels int         // bound to ports of the address, which outlive expires; guarded by allocation.mu
	heard    atomic.Bool // something came from the peer

	// Owned by the goroutine of the front.
	since time.Time // the period began
	spent int       // bytes of payload in it
}

// mayGo reports whether size bytes may go to the peer, and counts them if it has never answered. budget is that of one
// silentPeriod; negative is no limit.
func (p *permission) mayGo(size, budget int, now time.Time) bool {
	if budget < 0 || p.heard.Load() {
		return true
	}
	if passed := now.Sub(p.since); passed >= silentPeriod || passed < 0 {
		p.since, p.spent = now, 0
	}
	if p.spent+size > budget {
		return false
	}
	p.spent += size
	return true
}
