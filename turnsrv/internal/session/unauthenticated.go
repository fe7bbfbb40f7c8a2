package session

import (
	"net/netip"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// strangers limits the answers to requests that nobody vouches for, on one socket. Over UDP anybody can write any source address
// on a request, and the answer is larger than the request: beyond a rate for each network there is none. A client of that network
// asks again, RFC 8489 section 6.2.1.
//
// A neighbour who uses up the rate of the network must not keep others there from their first answers. So each host has a few of
// its own, which are counted apart, up to as many again for the network: the sender's addresses may be invented.
type strangers struct {
	networks *limit.Sources // nil before the first one
	hosts    *limit.Sources
	reserved *limit.Sources // of networks, for what hosts lets through
}

// What one host is answered outside of its network's rate.
const (
	hostAnswers = 4 // a second
	hostBurst   = 8
)

// take counts an answer to addr and reports whether it may be sent. rate is that of a network.
func (s *strangers) take(addr netip.Addr, rate int, now time.Time) bool {
	if s.networks == nil {
		every := time.Second / time.Duration(rate)
		s.networks, s.reserved = limit.NewSources(every, 2*rate, now), limit.NewSources(every, 2*rate, now)
		s.hosts = limit.NewSources(time.Second/hostAnswers, hostBurst, now)
	}
	network := limit.Network(addr)
	return s.hosts.Take(limit.Host(addr), 1, now) && s.reserved.Take(network, 1, now) || s.networks.Take(network, 1, now)
}

// mayAnswer reports whether r, of which nobody knows that it comes from where it says, may be answered, and counts it as
// answered if so. A stream has shown its address by being there.
func (s *Session) mayAnswer(r *request, now time.Time) bool {
	rate := s.shared.config.UnauthenticatedRate
	if rate < 0 || r.client.Stream != nil {
		return true
	}
	if !s.strangers.take(r.client.Tuple.Client.Addr(), rate, now) {
		s.drop(event.DropUnauthenticated, r.client, now)
		return false
	}
	return true
}

// guesses limits answers to failed integrity checks, for all sessions together. Safe for concurrent use.
//
// Every request is verified, also from a source that is being limited: its neighbours behind a NAT must get in, and a
// client that was given a wrong password once. What a guesser loses is the answer. It has to wait for the time-out of
// its request, 39.5 s as RFC 8489 section 6.2.1 has it, and every attempt in vain makes the silence longer. Whoever does
// not wait is not slowed down: against that stands only the length of secrets and passwords.
type guesses struct {
	burst int // that are answered at once; negative is all

	mu    sync.Mutex     // guards what follows
	limit *limit.Sources // nil until there is a first one
}

const (
	// guessRecovery is how long one failed check is held against a source.
	guessRecovery = time.Second
	// maxSilence is how long a source goes without answers after its last failure, at most.
	maxSilence = 5 * time.Minute
)

// mayRefuse counts a failed check of r and reports whether it may be answered.
func (g *guesses) mayRefuse(r *request, now time.Time) bool {
	if g.burst < 0 {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.limit == nil {
		g.limit = limit.NewSources(guessRecovery, g.burst, now)
		g.limit.Debt = maxSilence
	}
	return g.limit.Take(limit.Host(r.client.Tuple.Client.Addr()), 1, now)
}
