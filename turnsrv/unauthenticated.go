package turnsrv

import (
	"sync"
	"time"
)

// mayAnswer reports whether r, of which nobody knows that it comes from where it says, may be answered, and counts it as
// answered if so. Over UDP anybody can write any source address on a request, and the answer is larger than the request:
// beyond a rate for each network there is none. A client of that network asks again, RFC 8489 section 6.2.1.
//
// A stream has shown its address by being there.
func (f *front) mayAnswer(r *request, now time.Time) bool {
	rate := f.server.config.UnauthenticatedRate
	if rate < 0 || r.client.stream != nil {
		return true
	}
	if f.unauthenticated == nil {
		f.unauthenticated = newSourceLimit(time.Second/time.Duration(rate), 2*rate, now)
	}
	if !f.unauthenticated.take(sourceNetwork(r.client.tuple.Client.Addr()), now) {
		f.drop(DropUnauthenticated, r.client, now)
		return false
	}
	return true
}

// guesses limits answers to failed integrity checks, for all fronts together. Safe for concurrent use.
//
// Every request is verified, also from a source that is being limited: its neighbours behind a NAT must get in, and a
// client that was given a wrong password once. What a guesser loses is the answer. It has to wait for the time-out of
// its request, 39.5 s as RFC 8489 section 6.2.1 has it, and every attempt in vain makes the silence longer. Whoever does
// not wait is not slowed down: against that stands only the length of secrets and passwords.
type guesses struct {
	burst int // that are answered at once; negative is all

	mu    sync.Mutex   // guards what follows
	limit *sourceLimit // nil until there is a first one
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
		g.limit = newSourceLimit(guessRecovery, g.burst, now)
		g.limit.debt = maxSilence
	}
	return g.limit.take(sourceHost(r.client.tuple.Client.Addr()), now)
}
