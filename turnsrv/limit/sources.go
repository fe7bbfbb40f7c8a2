package limit

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"time"
)

// The size of Sources: 16384 buckets of 16 bytes.
const (
	limitSets = 1 << 12 // a power of two
	limitWays = 4
)

// Sources is a token bucket for each source of requests, in a table that does not grow. It has no lock.
//
// A bucket is the moment at which it will be full again (the generic cell rate algorithm, ITU-T I.371): one request moves
// that moment on by what a token takes to come back. Sources are told apart by a hash under a key of this process, so
// that nobody can choose addresses that collide with somebody else's. Where a new source finds no room, the bucket
// that will be full soonest is forgotten, which is the one that matters least: a flood from always new addresses neither
// takes the bucket away from under a source that is being limited, nor keeps a new one from having its own.
type Sources struct {
	every time.Duration // a token comes back
	burst time.Duration // what a full bucket holds, in the time that its tokens take to come back
	// Debt is how far below empty refused requests take a bucket, in the time that the tokens take to come back. Zero: they cost
	// nothing. It is set before the first Take.
	Debt time.Duration

	seed  maphash.Seed
	start time.Time // the zero of the buckets
	sets  [limitSets][limitWays]limitBucket
}

type limitBucket struct {
	source uint64        // its hash
	full   time.Duration // when, since start
}

// NewSources returns a limit of burst requests at once and one each every, for each source.
func NewSources(every time.Duration, burst int, now time.Time) *Sources {
	return &Sources{every: every, burst: every * time.Duration(burst), seed: maphash.MakeSeed(), start: now}
}

// Take asks for n tokens for source and reports whether there were so many. It takes all of them or none.
func (l *Sources) Take(source netip.Prefix, n int, now time.Time) bool {
	at := now.Sub(l.start)
	b := l.bucket(source)
	// A clock that was set back must not leave anybody without tokens for longer than the emptiest bucket does.
	b.full = min(max(b.full, at), at+l.burst+l.Debt)
	after := b.full + l.every*time.Duration(n)
	if after > at+l.burst {
		if l.Debt > 0 {
			b.full = min(after, at+l.burst+l.Debt)
		}
		return false
	}
	b.full = after
	return true
}

// Wait returns how long it takes until Take of n tokens for source succeeds, if nobody else asks meanwhile.
func (l *Sources) Wait(source netip.Prefix, n int, now time.Time) time.Duration {
	at := now.Sub(l.start)
	return max(max(l.bucket(source).full, at)+l.every*time.Duration(n)-at-l.burst, 0)
}

// bucket returns the bucket of source, a full one if there was none.
func (l *Sources) bucket(source netip.Prefix) *limitBucket {
	var key [18]byte
	addr := source.Addr().As16()
	copy(key[:], addr[:])
	binary.BigEndian.PutUint16(key[16:], uint16(source.Bits()))
	hash := maphash.Bytes(l.seed, key[:])
	set := &l.sets[hash%limitSets]
	oldest := &set[0]
	for i := range set {
		if set[i].source == hash {
			return &set[i]
		}
		if set[i].full < oldest.full {
			oldest = &set[i]
		}
	}
	*oldest = limitBucket{source: hash}
	return oldest
}

// Network is what one customer or site is taken to have, and what one flood of answers would hurt: the /24 of an
// IPv4 address (what can be routed by itself on the internet), the /48 of an IPv6 one (RFC 6177: at most a site).
func Network(addr netip.Addr) netip.Prefix { return sourcePrefix(addr, 24, 48) }

// Host is what one guesser has: an IPv4 address, or the /64 of an IPv6 one, in which a host takes what it likes.
func Host(addr netip.Addr) netip.Prefix { return sourcePrefix(addr, 32, 64) }

func sourcePrefix(addr netip.Addr, bits4, bits6 int) netip.Prefix {
	bits := bits6
	if addr.Is4() {
		bits = bits4
	}
	prefix, _ := addr.WithZone("").Prefix(bits) // fails for an invalid address only, which all share one bucket
	return prefix
}
