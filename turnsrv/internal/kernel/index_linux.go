//go:build amd64 || arm64

package kernel

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"unsafe"
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

// index is what the program finds entries by. It has a tag of each entry that is in use, from the hash of its key. A key has two lines,
// in one of which its entry must be. The hash tables of the kernel would cost each packet two or three more cache misses.
type index struct {
	lines   []objectLine // shared with the program
	control *objectControl
}

const (
	ways = 8 // entries of a line
	// linesEach is how many lines there are for each ways entries that may be in use at the same time: with a quarter more, nearly all
	// keys find a place.
	linesEach = 1.25
	// minLines is the minimum number of lines, with which those of a small table practically never become full.
	minLines = 1 << 8
	// maxChannels is the maximum number of channels, with two entries each. A hash tells more lines apart than these need.
	maxChannels = 1 << 16
)

// linesFor returns the number of lines for a number of entries.
func linesFor(entries uint32) uint32 { return max(minLines, uint32(linesEach*float64(entries)/ways)) }

// begin sets what the program needs to use the index.
func (x *index) begin() {
	x.control.Lines = uint64(len(x.lines))
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

// tag returns what the index has of a key. It is never zero.
func (x *index) tag(k key) uint16 { return cmp.Or(uint16(x.hash(k)>>16), 1) }

// places returns the two lines in which the entry of a key may be, of which the program looks at the first one first. The next one is
// the second line of keys with the same tag whose first line is the second one of this key.
func (x *index) places(k key) (first, second, next uint32) {
	lines := uint64(len(x.lines))
	at := uint64(uint16(x.hash(k))) * lines >> 16
	step := 1 + uint64(x.tag(k))*(lines-1)>>16
	return uint32(at), uint32((at + step) % lines), uint32((at + 2*step) % lines)
}

// tagged returns the number of the entry in a line that has the tag.
func (x *index) tagged(line uint32, tag uint16) (number uint32, ok bool) {
	for way, other := range x.lines[line].Tags {
		if other == tag {
			return line*ways + uint32(way), true
		}
	}
	return 0, false
}

// place returns the number of an entry for a key, in the emptier one of its lines. taken reports whether an entry may not be used. The
// error is ErrPlace if there is none, or ErrTaken, if an entry has this key or, in one of some thousand cases, one that the program
// would mistake it for, or the other way round, because both have the same tag.
func (x *index) place(k key, taken func(number uint32) bool) (number uint32, err error) {
	tag := x.tag(k)
	first, second, next := x.places(k)
	for _, line := range []uint32{first, second, next} {
		if _, is := x.tagged(line, tag); is {
			return 0, ErrTaken
		}
	}
	most := 0
	for _, line := range []uint32{first, second} {
		free, last := 0, uint32(0)
		for n := line * ways; n < (line+1)*ways; n++ {
			if !taken(n) {
				free++
				last = n
			}
		}
		if free > most {
			most, number = free, last
		}
	}
	if most == 0 {
		return 0, ErrPlace
	}
	return number, nil
}

// add makes the program find an entry, which has been written, at its place.
func (x *index) add(k key, number uint32) { x.set(number, x.tag(k)) }

// remove undoes add.
func (x *index) remove(number uint32) { x.set(number, 0) }

// set sets the tag of an entry. The program reads it at any time, so what has been written before must be there then.
func (x *index) set(number uint32, tag uint16) {
	words := (*[ways / 2]uint32)(unsafe.Pointer(&x.lines[number/ways])) // of two tags, the lower bits first
	word, shift := &words[number%ways/2], number%2*16
	atomic.StoreUint32(word, *word&^(0xffff<<shift)|uint32(tag)<<shift)
}
