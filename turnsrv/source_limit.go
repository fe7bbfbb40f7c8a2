package turnsrv

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"time"
)

// The size of a sourceLimit: 16384 buckets of 16 bytes.
const (
	limitSets = 1 << 12 // a power of two
	limitWays = 4
)

// sourceLimit is a token bucket for each source of requests, in a table that does not grow. It has no lock.
//
// A bucket is the moment at which it will be full again (the generic cell rate algorithm, ITU-T I.371): one request moves
// that moment on by what a token takes to come back. Sources are told apart by a hash under a key of this process, so
// that nobody can choose addresses that fall together with somebody else's. Where a new source finds no room, the bucket
// that will be full soonest is forgotten, which is the one that matters least: a flood from ever new addresses neither
// takes the bucket away from under a source that is being limited, nor keeps a new one from having its own.
type sourceLimit struct {
	every time.Duration // a token comes back
	burst time.Duration // what a full bucket holds, in the time that its tokens take to come back
	debt  time.Duration // how far below empty refused requests take a bucket; zero if they cost nothing

	seed  maphash.Seed
	start time.Time // the zero of the buckets
	sets  [limitSets][limitWays]limitBucket
}

type limitBucket struct {
	source uint64        // its hash
	full   time.Duration // when, since start
}

// newSourceLimit returns a limit of burst requests at once and one each every, for each source.
func newSourceLimit(every time.Duration, burst int, now time.Time) *sourceLimit {
	return &sourceLimit{every: every, burst: every * time.Duration(burst), seed: maphash.MakeSeed(), start: now}
}

// take asks for a token for source and reports whether there was one.
func (l *sourceLimit) take(source netip.Prefix, now time.Time) bool { return l.spend(source, 1, now) }

// spend asks for n tokens for source and reports whether there were so many. It takes all of them or none.
func (l *sourceLimit) spend(source netip.Prefix, n int, now time.Time) bool {
	at := now.Sub(l.start)
	b := l.bucket(source)
	// A clock that was set back must not leave anybody without tokens for longer than the emptiest bucket does.
	b.full = min(max(b.full, at), at+l.burst+l.debt)
	after := b.full + l.every*time.Duration(n)
	if after > at+l.burst {
		if l.debt > 0 {
			b.full = min(after, at+l.burst+l.debt)
		}
		return false
	}
	b.full = after
	return true
}

// bucket returns the bucket of source, a full one if there was none.
func (l *sourceLimit) bucket(source netip.Prefix) *limitBucket {
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

// sourceNetwork is what one customer or site is taken to have, and what one flood of answers would hurt: the /24 of an
// IPv4 address (what can be routed by itself on the internet), the /48 of an IPv6 one (RFC 6177: at most a site).
func sourceNetwork(addr netip.Addr) netip.Prefix { return sourcePrefix(addr, 24, 48) }

// sourceHost is what one guesser has: an IPv4 address, or the /64 of an IPv6 one, in which a host takes what it likes.
func sourceHost(addr netip.Addr) netip.Prefix { return sourcePrefix(addr, 32, 64) }

func sourcePrefix(addr netip.Addr, bits4, bits6 int) netip.Prefix {
	bits := bits6
	if addr.Is4() {
		bits = bits4
	}
	prefix, _ := addr.WithZone("").Prefix(bits) // fails for an invalid address only, which all share one bucket
	return prefix
}
