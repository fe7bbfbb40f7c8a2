//go:build amd64 || arm64

package kernel

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
)

// restFor is how long an entry that has ended is not used again. Until then the program, which runs for microseconds, may still
// be using it on another processor.
const restFor = time.Second

// entries are the entries of the program. Safe for concurrent use.
type entries struct {
	numbers *ebpf.Map     // from what a packet has on the wire to the number of its entry
	all     []objectEntry // shared with the program

	mu      sync.Mutex // guards what follows, and Share.entries
	used    uint32     // entries from this number on have never been used
	free    []uint32   // ended, and rested
	resting []resting  // ended, the first one before the others
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
		e.free = append(e.free, rested.number)
		rested.share.entries--
	}
}

// takeFree returns the number of a free entry. There must be one.
func (e *entries) takeFree() uint32 {
	if last := len(e.free) - 1; last >= 0 {
		number := e.free[last]
		e.free = e.free[:last]
		return number
	}
	e.used++
	return e.used - 1
}

// take returns the numbers of two entries, which count for the share until they have rested.
func (e *entries) take(share *Share, now time.Time) (toPeer, toClient uint32, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.freeRested(now)
	free := len(e.all) - int(e.used) + len(e.free)
	switch {
	case free < 2:
		return 0, 0, ErrFull
	case share.entries+2 > free:
		return 0, 0, ErrShare
	}
	share.entries += 2
	return e.takeFree(), e.takeFree(), nil
}

// rest makes an entry rest, which the program does not find any more.
func (e *entries) rest(number uint32, share *Share, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.resting = append(e.resting, resting{number, share, now})
}

// Channel is a channel binding in the kernel. Safe for concurrent use, except that nothing may be called after End.
type Channel struct {
	path             *Path
	entries          *entries
	share            *Share
	toPeer, toClient uint32
	ways             []way // routes over the interfaces of the binding when it was added
}

// Add makes the program relay the packets of a channel from now on. The error is ErrFamily, ErrFull, ErrShare, ErrTaken, or
// one of the system.
func (p *Path) Add(b Binding, now time.Time) (*Channel, error) {
	client, server, relay, peer := b.Client.Addr().Unmap(), b.Server.Addr().Unmap(), b.Relay.Addr().Unmap(), b.Peer.Addr().Unmap()
	if v4 := client.Is4(); server.Is4() != v4 || relay.Is4() != v4 || peer.Is4() != v4 {
		return nil, ErrFamily
	}
	share := b.Share
	if share == nil {
		share = new(Share)
	}
	toPeer, toClient, err := p.entries.take(share, now)
	if err != nil {
		return nil, err
	}
	channel := &Channel{path: p, entries: &p.entries, share: share, toPeer: toPeer, toClient: toClient, ways: b.ways()}
	until := monotonic(b.Until.Sub(now))
	flags := objectFlagsLIVE
	if b.Local {
		flags |= objectFlagsLOCAL
	}
	to := objectEntry{
		Key: key(b.Client, b.Server, uint16(b.Number)), Out: key(b.Relay, b.Peer, 0),
		From: uint32(b.ToClient.Interface), To: uint32(b.ToPeer.Interface), Mtu: uint32(b.ToPeer.MTU),
		Reverse: toClient, Flags: flags, Until: until,
	}
	from := objectEntry{
		Key: key(b.Peer, b.Relay, 0), Out: key(b.Server, b.Client, uint16(b.Number)),
		From: uint32(b.ToPeer.Interface), To: uint32(b.ToClient.Interface), Mtu: uint32(b.ToClient.MTU),
		Reverse: toPeer, Flags: flags, Until: until,
	}
	p.entries.all[toPeer], p.entries.all[toClient] = to, from
	channel.SetLimits(b.LimitTo, b.LimitFrom)
	for _, entry := range []*objectEntry{&p.entries.all[toPeer], &p.entries.all[toClient]} {
		// Empty: a client must not get another burst by binding again.
		entry.Bits.Full = monotonic(time.Duration(entry.Bits.Burst))
		entry.Packets.Full = monotonic(time.Duration(entry.Packets.Burst))
	}
	// The system call makes what was written visible to the program before the number is.
	if err := p.entries.numbers.Update(to.Key, toPeer, ebpf.UpdateNoExist); err != nil {
		p.entries.rest(toPeer, share, now)
		p.entries.rest(toClient, share, now)
		return nil, addError(err)
	}
	if err := p.entries.numbers.Update(from.Key, toClient, ebpf.UpdateNoExist); err != nil {
		p.entries.end(toPeer, share, now)
		p.entries.rest(toClient, share, now)
		return nil, addError(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.channels[channel] = struct{}{}
	return channel, nil
}

func addError(err error) error {
	if errors.Is(err, ebpf.ErrKeyExist) {
		return ErrTaken
	}
	return err
}

// end makes the program stop using an entry.
func (e *entries) end(number uint32, share *Share, now time.Time) {
	entry := &e.all[number]
	atomic.StoreUint32((*uint32)(&entry.Flags), 0)
	_ = e.numbers.Delete(entry.Key) // without it, the program would find an entry that is not live
	e.rest(number, share, now)
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

// key returns the key of an entry: the addresses, ports and channel number of its packets.
func key(source, destination netip.AddrPort, channel uint16) objectKey {
	return objectKey{
		Source: words(source.Addr()), Destination: words(destination.Addr()),
		SourcePort: big(source.Port()), DestinationPort: big(destination.Port()), Channel: big(channel),
	}
}

// words returns an address as words in network byte order. An IPv4 address is IPv4-mapped.
func words(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

// big returns a number that is n in network byte order.
func big(n uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n)) }
