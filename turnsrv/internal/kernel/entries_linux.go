//go:build amd64 || arm64

package kernel

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// restFor is how long an entry that has ended is not used again. Until then the program, which runs for microseconds, may still
// be using it on another processor.
const restFor = time.Second

// entries are the entries of the program. Safe for concurrent use.
type entries struct {
	all   []objectEntry // shared with the program
	wides []objectWide  // shared with the program: what entries of IPv6 have in addition

	mu      sync.Mutex // guards what follows, and Share.entries
	index   index
	most    int       // entries that may be taken at the same time: fewer than there are
	used    int       // that are taken
	taken   []bool    // by number: in use, or resting
	resting []resting // ended, the first one before the others
}

type resting struct {
	number uint32
	share  *Share
	since  time.Time
}

// freeRested frees the entries that have rested long enough.
func (e *entries) freeRested(now time.Time) {
	for len(e.resting) > 0 && now.Sub(e.resting[0].since) >= restFor {
		rested := e.resting[0]
		e.resting = e.resting[1:]
		e.giveLocked(rested.number, rested.share)
	}
}

// giveLocked frees an entry that the program cannot be using.
func (e *entries) giveLocked(number uint32, share *Share) {
	e.taken[number] = false
	e.used--
	share.entries--
}

// takeLocked returns the number of an entry for a key, which counts for the share until it has rested.
func (e *entries) takeLocked(k key, share *Share) (number uint32, err error) {
	number, err = e.index.place(k, func(n uint32) bool { return e.taken[n] })
	if err == nil {
		e.taken[number] = true
		e.used++
		share.entries++
	}
	return number, err
}

// takeBothLocked returns the numbers of two entries for two keys.
func (e *entries) takeBothLocked(one, two key, share *Share, now time.Time) (first, second uint32, err error) {
	e.freeRested(now)
	switch free := e.most - e.used; {
	case free < 2:
		return 0, 0, ErrFull
	case share.entries+2 > free:
		return 0, 0, ErrShare
	}
	if e.index.tag(one) == e.index.tag(two) {
		return 0, 0, ErrTaken // as the index would say if it had the first one
	}
	if first, err = e.takeLocked(one, share); err != nil {
		return 0, 0, err
	}
	if second, err = e.takeLocked(two, share); err != nil {
		e.giveLocked(first, share)
		return 0, 0, err
	}
	return first, second, nil
}

// Channel is a channel binding in the kernel. Safe for concurrent use, except that nothing may be called after End.
type Channel struct {
	path             *Path
	entries          *entries
	share            *Share
	toPeer, toClient uint32
	ways             []way // routes over the interfaces of the binding when it was added
}

// Add makes the program relay the packets of a channel from now on. The error is ErrFamily, ErrFull, ErrShare, ErrTaken or
// ErrPlace.
func (p *Path) Add(b Binding, now time.Time) (*Channel, error) {
	client, server, relay, peer := b.Client.Addr().Unmap(), b.Server.Addr().Unmap(), b.Relay.Addr().Unmap(), b.Peer.Addr().Unmap()
	if v4 := client.Is4(); server.Is4() != v4 || relay.Is4() != v4 || peer.Is4() != v4 {
		return nil, ErrFamily
	}
	share := b.Share
	if share == nil {
		share = new(Share)
	}
	channel := &Channel{path: p, entries: &p.entries, share: share, ways: b.ways()}
	if err := channel.begin(b, now); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.channels[channel] = struct{}{}
	return channel, nil
}

// begin makes the program relay the packets of a binding.
func (c *Channel) begin(b Binding, now time.Time) error {
	toServer, toPeer := keyOf(b.Client, b.Server, uint16(b.Number)), keyOf(b.Relay, b.Peer, 0)
	toRelay, toClient := keyOf(b.Peer, b.Relay, 0), keyOf(b.Server, b.Client, uint16(b.Number))
	until := monotonic(b.Until.Sub(now))
	flags := objectFlagsLIVE
	if b.Local {
		flags |= objectFlagsLOCAL
	}
	e := c.entries
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	if c.toPeer, c.toClient, err = e.takeBothLocked(toServer, toRelay, c.share, now); err != nil {
		return err
	}
	e.write(toServer, toPeer, objectEntry{
		From: uint32(b.ToClient.Interface), To: uint32(b.ToPeer.Interface), Mtu: packetSize(b.ToPeer.MTU),
		Number: c.toPeer, Reverse: c.toClient, Flags: flags, Until: until,
	})
	e.write(toRelay, toClient, objectEntry{
		From: uint32(b.ToPeer.Interface), To: uint32(b.ToClient.Interface), Mtu: packetSize(b.ToClient.MTU),
		Number: c.toClient, Reverse: c.toPeer, Flags: flags, Until: until,
	})
	c.SetLimits(b.LimitTo, b.LimitFrom)
	for _, entry := range []*objectEntry{&e.all[c.toPeer], &e.all[c.toClient]} {
		// Empty: a client must not get another burst by binding again.
		entry.Bits.Full = monotonic(time.Duration(entry.Bits.Burst))
		entry.Packets.Full = monotonic(time.Duration(entry.Packets.Burst))
	}
	e.index.add(toServer, c.toPeer)
	e.index.add(toRelay, c.toClient)
	return nil
}

// packetSize returns an MTU as the program has it. No IP packet is longer than that.
func packetSize(mtu int) uint16 { return uint16(min(mtu, math.MaxUint16)) }

// write writes an entry that the program does not find yet.
func (e *entries) write(in, out key, entry objectEntry) {
	entry.Key, entry.Out = in.ends, out.ends
	e.all[entry.Number] = entry
	e.wides[entry.Number] = objectWide{Key: in.prefixes, Out: out.prefixes}
}

// end makes the program stop using an entry.
func (e *entries) end(number uint32, share *Share, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	atomic.StoreUint32((*uint32)(&e.all[number].Flags), 0)
	e.index.remove(number)
	e.resting = append(e.resting, resting{number, share, now})
}

// End makes the program stop relaying the packets of the channel, and returns the final counts in each direction. A packet that the
// program is relaying on another processor at the same time still leaves, and may not be counted.
func (c *Channel) End(now time.Time) (toPeer, toClient Counts) {
	c.path.mu.Lock()
	delete(c.path.channels, c) // before another channel can get the entries: see Path.disable
	c.path.mu.Unlock()
	c.entries.end(c.toPeer, c.share, now)
	c.entries.end(c.toClient, c.share, now)
	return c.Counts()
}

// Disabled reports whether the program has stopped using the channel because its packets may have to take another route now. The
// caller then ends the channel.
func (c *Channel) Disabled() bool {
	return atomic.LoadUint32((*uint32)(&c.entries.all[c.toPeer].Flags)) == 0
}

// disable makes the program stop using a channel that has not ended.
func (p *Path) disable(c *Channel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, live := p.channels[c]; live {
		for _, number := range []uint32{c.toPeer, c.toClient} {
			atomic.StoreUint32((*uint32)(&c.entries.all[number].Flags), 0)
		}
	}
}

// Counts returns what the program has relayed in each direction.
func (c *Channel) Counts() (toPeer, toClient Counts) {
	return c.entries.counts(c.toPeer), c.entries.counts(c.toClient)
}

func (e *entries) counts(number uint32) Counts {
	entry := &e.all[number]
	return Counts{Packets: atomic.LoadUint64(&entry.RelayedPackets), Bytes: atomic.LoadUint64(&entry.RelayedBytes)}
}

// Extend changes the expiry of the channel, after it was bound again.
func (c *Channel) Extend(until, now time.Time) {
	at := monotonic(until.Sub(now))
	atomic.StoreUint64(&c.entries.all[c.toPeer].Until, at)
	atomic.StoreUint64(&c.entries.all[c.toClient].Until, at)
}

// SetLimits changes the limits of what goes to the peer, and of what comes from it.
func (c *Channel) SetLimits(to, from Limit) {
	c.entries.limit(c.toPeer, to)
	c.entries.limit(c.toClient, from)
}

// limit changes the limits of an entry.
func (e *entries) limit(number uint32, l Limit) {
	entry := &e.all[number]
	cost, burst := bucket(l.Bits, l.BitBurst, maxBits)
	atomic.StoreUint64(&entry.Bits.Cost, cost)
	atomic.StoreUint64(&entry.Bits.Burst, burst)
	cost, burst = bucket(l.Packets, l.PacketBurst, 1)
	atomic.StoreUint64(&entry.Packets.Cost, cost)
	atomic.StoreUint64(&entry.Packets.Burst, burst)
}

const (
	costUnit = 1 << 16 // of the cost of a token: 1/65536 nanosecond
	maxBits  = 1 << 20 // more than one packet has
	maxBurst = time.Hour
)

// bucket returns the cost of a token and the burst, in the units of the program, of a bucket that is refilled with perSecond
// tokens per second. A packet takes up to most tokens, which must not cost more than 64 bits can count.
func bucket(perSecond, burst, most int64) (cost, full uint64) {
	if perSecond <= 0 {
		return 0, 0
	}
	each := float64(time.Second) / float64(perSecond)
	maxCost := float64(math.MaxInt64 / most)
	return uint64(max(min(each*costUnit, maxCost), 1)), uint64(min(float64(burst)*each, float64(maxBurst)))
}
