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

// Sources contains a token bucket for each source of requests, in a table of fixed size. Not safe for concurrent use.
//
// A bucket is stored as the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371). A request moves
// that time forward by the interval at which tokens are refilled. Sources are identified by a hash with a random key, so that
// nobody can choose addresses that collide with another source. When there is no room for a new source, it replaces the bucket
// that will be full soonest, whose loss matters least. A flood from ever-changing addresses therefore neither removes the
// bucket of a source that is being limited nor prevents a new source from getting one.
type Sources struct {
	every time.Duration // interval at which a token is refilled
	burst time.Duration // capacity, as the time in which it is refilled
	// Debt limits how far refused requests can overdraw a bucket, as the time in which that is refilled. Zero means that they cost
	// nothing. It is set before the first Take.
	Debt time.Duration

	seed  maphash.Seed
	start time.Time // time zero of the buckets
	sets  [limitSets][limitWays]limitBucket
}

type limitBucket struct {
	source uint64        // hash of the source
	full   time.Duration // when it is full, since start
}

// NewSources returns a limit for each source: burst tokens at once, refilled at one token per interval every.
func NewSources(every time.Duration, burst int, now time.Time) *Sources {
	return &Sources{every: every, burst: every * time.Duration(burst), seed: maphash.MakeSeed(), start: now}
}

// Take takes n tokens of source, or none if fewer are available, and reports whether it succeeded.
func (l *Sources) Take(source netip.Prefix, n int, now time.Time) bool {
	at := now.Sub(l.start)
	b := l.bucket(source)
	// After the clock was set back, no source may lack tokens for longer than the emptiest bucket would.
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

// Wait returns how long it takes until Take of n tokens of source can succeed.
func (l *Sources) Wait(source netip.Prefix, n int, now time.Time) time.Duration {
	at := now.Sub(l.start)
	return max(max(l.bucket(source).full, at)+l.every*time.Duration(n)-at-l.burst, 0)
}

// bucket returns the bucket of source, which is full if it is new.
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

// Network returns the network that addr is counted under, which is assumed to belong to one customer or site: the /24 of an
// IPv4 address (the smallest prefix routed on the internet), or the /48 of an IPv6 address (RFC 6177: at most a site).
func Network(addr netip.Addr) netip.Prefix { return sourcePrefix(addr, 24, 48) }

// Host returns the prefix that one host is assumed to control: an IPv4 address, or an IPv6 /64, in which a host can choose its
// addresses.
func Host(addr netip.Addr) netip.Prefix { return sourcePrefix(addr, 32, 64) }

func sourcePrefix(addr netip.Addr, bits4, bits6 int) netip.Prefix {
	bits := bits6
	if addr.Is4() {
		bits = bits4
	}
	prefix, _ := addr.WithZone("").Prefix(bits) // fails only for an invalid address; those share one bucket
	return prefix
}
