package session

import (
	"net/netip"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// strangers limits the responses to unauthenticated requests on one socket. Over UDP the source address can be spoofed, and a
// response is larger than its request. Requests above the rate of their source network are therefore dropped; a genuine client
// retransmits, RFC 8489 section 6.2.1.
//
// A host that exhausts the rate of its network must not prevent its neighbours from getting their first responses. Therefore
// each host also has a small rate of its own. These responses are limited for the network as a whole too, because the hosts may
// be spoofed.
type strangers struct {
	networks *limit.Sources // nil before the first use
	hosts    *limit.Sources
	reserved *limit.Sources // for networks: limits what hosts allows
}

// Responses to one host that do not count towards the rate of its network.
const (
	hostAnswers = 4 // per second
	hostBurst   = 8
)

// take counts a response to addr and reports whether it may be sent. rate is the rate of a network.
func (s *strangers) take(addr netip.Addr, rate int, now time.Time) bool {
	if s.networks == nil {
		every := time.Second / time.Duration(rate)
		s.networks, s.reserved = limit.NewSources(every, 2*rate, now), limit.NewSources(every, 2*rate, now)
		s.hosts = limit.NewSources(time.Second/hostAnswers, hostBurst, now)
	}
	network := limit.Network(addr)
	return s.hosts.Take(limit.Host(addr), 1, now) && s.reserved.Take(network, 1, now) || s.networks.Take(network, 1, now)
}

// mayAnswer reports whether r, whose source address is unverified, may be answered, and counts the response. The address of a
// stream was verified by its handshake.
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

// guesses limits the responses to failed integrity checks, for all sessions of a server. Safe for concurrent use.
//
// Every request is verified, even from a source that is limited. Otherwise a guesser would lock out its neighbours behind the
// same NAT, and clients that once had a wrong password. A guesser loses only the response: it must wait for its request to time
// out, 39.5 s according to RFC 8489 section 6.2.1, and each further failure extends the silence. A guesser that does not wait
// is not slowed down; the only protection against it is the length of secrets and passwords.
type guesses struct {
	burst int // failures answered in one burst; negative means no limit

	mu    sync.Mutex     // guards what follows
	limit *limit.Sources // nil before the first use
}

const (
	// guessRecovery is how long one failed check counts against a source.
	guessRecovery = time.Second
	// maxSilence is the maximum time for which a source gets no responses after its last failure.
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
