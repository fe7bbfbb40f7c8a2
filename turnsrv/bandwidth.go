package turnsrv

import (
	"sync/atomic"
	"time"
)

// minBurst is the most that one packet needs, in bits.
const minBurst = 65536 * 8

// bandwidth is a token bucket for one direction, without a lock, so that packets of different workers do not wait for
// one another. It holds a second's worth, and not less than one datagram of any size: media comes in bursts, and a limit
// is about what a call takes in the long run. The zero value is full. Safe for concurrent use.
type bandwidth struct {
	full atomic.Int64 // when it is full again, in nanoseconds since the server was made
}

// take takes a packet of so many bytes out of a bucket into which bps bits come back each second, and reports whether
// they were there. Zero bps is no limit. now counts from when the server was made.
func (b *bandwidth) take(bytes int, bps int64, now time.Duration) bool {
	if bps == 0 {
		return true
	}
	cost, burst := refill(int64(bytes)*8, bps), refill(max(bps, minBurst), bps)
	for {
		was := b.full.Load()
		full := max(was, int64(now)) + cost
		switch {
		case was > int64(now)+burst:
			// The limit was raised: what the old one has left behind is an empty bucket, and no more than that.
			b.full.CompareAndSwap(was, int64(now)+burst)
		case full > int64(now)+burst:
			return false
		case b.full.CompareAndSwap(was, full):
			return true
		}
	}
}

// give undoes a take that succeeded.
func (b *bandwidth) give(bytes int, bps int64) {
	if bps > 0 {
		b.full.Add(-refill(int64(bytes)*8, bps))
	}
}

// refill returns in nanoseconds how long so many bits take to come back.
func refill(bits, bps int64) int64 { return int64(float64(bits) / float64(bps) * float64(time.Second)) }

// bandwidths are the limits of both directions of an allocation, or of the server. As in coturn a limit is that of each
// direction by itself.
type bandwidths struct{ toPeer, toClient bandwidth }

// bandwidth reports whether size bytes may pass in the direction that own and all are the buckets of.
func (s *Server) bandwidth(own, all *bandwidth, size int, now time.Time) bool {
	each, total := s.maxBPS.Load(), s.totalBPS.Load()
	if each == 0 && total == 0 {
		return true
	}
	at := now.Sub(s.start)
	if !own.take(size, each, at) {
		return false
	}
	if !all.take(size, total, at) {
		own.give(size, each)
		return false
	}
	return true
}
