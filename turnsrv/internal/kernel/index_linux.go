//go:build amd64 || arm64

package kernel

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
)

// key is what a packet of an entry has on the wire.
type key struct {
	ends     objectEnds
	prefixes objectPrefixes // zero for IPv4
}

// keyOf returns the key of packets with these addresses, ports and channel number.
func keyOf(source, destination netip.AddrPort, channel uint16) key {
	from, to := words(source.Addr()), words(destination.Addr())
	k := key{ends: objectEnds{
		Source: from[3], Destination: to[3], SourcePort: big(source.Port()), DestinationPort: big(destination.Port()), Channel: big(channel),
	}}
	if !source.Addr().Unmap().Is4() {
		k.ends.Ipv6 = 1
		k.prefixes = objectPrefixes{Source: [3]uint32(from[:3]), Destination: [3]uint32(to[:3])}
	}
	return k
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

// index is what the program finds entries by: lines of a few slots each. A key has one line, and if that is full, no entry. The hash
// tables of the kernel would cost each packet two or three more cache misses.
type index struct {
	lines   []objectLine // shared with the program
	control *objectControl
}

const (
	// minLines is the minimum number of lines, with which those of a small table practically never become full.
	minLines = 1 << 10
	// perLine is how many entries a line has if all are in use: half as many as fit. One of 250 keys then finds its line full.
	perLine = 8
	// tagShift is the number of bits that the number of an entry has in a slot.
	tagShift = 17
	// maxChannels is how many channels can be numbered, with two entries each.
	maxChannels = 1<<(tagShift-1) - 1
)

// linesFor returns the number of lines for a number of entries: a power of two.
func linesFor(entries uint32) uint32 {
	lines := uint32(minLines)
	for lines < entries/perLine {
		lines *= 2
	}
	return lines
}

// begin sets what the program needs to use the index.
func (x *index) begin() {
	x.control.Mask = uint64(len(x.lines) - 1)
	for i := range x.control.Factors {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		x.control.Factors[i] = binary.NativeEndian.Uint64(b[:])
	}
}

// hash is that of the program.
func (x *index) hash(k key) uint32 {
	f := &x.control.Factors
	sum := f[0] + f[1]*uint64(k.ends.Source) + f[2]*uint64(k.ends.Destination)
	sum += f[3]*(uint64(k.ends.SourcePort)|uint64(k.ends.DestinationPort)<<16) + f[4]*(uint64(k.ends.Channel)|uint64(k.ends.Ipv6)<<16)
	for i := range k.prefixes.Source { // zero for IPv4, which the program leaves out
		sum += f[5+i]*uint64(k.prefixes.Source[i]) + f[8+i]*uint64(k.prefixes.Destination[i])
	}
	return uint32(sum >> 32)
}

// slots returns the slots of the line of a key, and what is in a slot of the entry with this number.
func (x *index) slots(k key, number uint32) (slots *[16]uint32, slot uint32) {
	h := x.hash(k)
	return &x.lines[h&uint32(x.control.Mask)].Slots, h>>tagShift<<tagShift | (number + 1)
}

// add makes the program find an entry, which has been written. The error is ErrTaken, if the line has this key or, in one of some
// 10,000 cases, one that a slot cannot tell from it, or ErrPlace.
func (x *index) add(k key, number uint32) error {
	slots, slot := x.slots(k, number)
	free := -1
	for i, other := range slots {
		switch {
		case other == 0:
			free = i
		case other>>tagShift == slot>>tagShift:
			return ErrTaken
		}
	}
	if free < 0 {
		return ErrPlace
	}
	atomic.StoreUint32(&slots[free], slot)
	return nil
}

// remove undoes add.
func (x *index) remove(k key, number uint32) {
	slots, slot := x.slots(k, number)
	for i, other := range slots {
		if other == slot {
			atomic.StoreUint32(&slots[i], 0)
		}
	}
}
