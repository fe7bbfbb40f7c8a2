//go:build amd64 || arm64

package kernel

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// TestIndex fills an index to its limit, which must find a place for nearly all keys, and all of those again, and empties it.
func TestIndex(t *testing.T) {
	for range 2 {
		fillIndex(t)
	}
}

func fillIndex(t *testing.T) {
	const entries = 1 << 16
	x := index{lines: make([]objectLine, linesFor(entries)), control: new(objectControl)}
	x.begin()
	taken := make([]bool, len(x.lines)*ways)
	inUse := func(number uint32) bool { return taken[number] }
	keys := make(map[uint32]key)
	for i := range entries {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i >> 8)}), 1024+uint16(i))
		k := keyOf(client, netip.MustParseAddrPort("198.51.100.1:3478"), 0x4000)
		if i%2 == 1 { // hosts of one network
			a := netip.MustParseAddr("2001:db8::").As16()
			a[8], a[15] = byte(i>>8), byte(i)
			k = keyOf(netip.AddrPortFrom(netip.AddrFrom16(a), 5000), netip.MustParseAddrPort("[2001:db8::1]:3478"), 0x4000)
		}
		number, err := x.place(k, inUse)
		switch {
		case err == nil && taken[number]:
			t.Fatalf("key %d gets entry %d, which is in use", i, number)
		case err == nil:
			taken[number], keys[number] = true, k
			x.add(k, number)
		case !errors.Is(err, ErrTaken) && !errors.Is(err, ErrPlace):
			t.Fatal(err)
		}
		if _, err := x.place(k, inUse); err == nil {
			t.Fatalf("key %d has two places", i)
		}
	}
	if left := entries - len(keys); left > entries/100 {
		t.Errorf("%d of %d keys have no place", left, entries)
	}
	for number, k := range keys {
		if found := x.find(k); found != number {
			t.Errorf("the program finds entry %d instead of %d", found, number)
		}
	}
	for number := range keys {
		x.remove(number)
	}
	for i, line := range x.lines {
		if line != (objectLine{}) {
			t.Fatalf("line %d is not empty: %v", i, line)
		}
	}
}

// find does what the program does.
func (x *index) find(k key) uint32 {
	first, second, _ := x.places(k)
	number, ok := x.tagged(first, x.tag(k))
	if !ok {
		number, _ = x.tagged(second, x.tag(k))
	}
	return number
}

// TestReusedEntry checks that the answer of the index alone does not decide: an entry that now belongs to another channel is not used.
func TestReusedEntry(t *testing.T) {
	now := time.Now()
	for name, b := range bindings(now) {
		t.Run(name, func(t *testing.T) {
			p, c := offload(t, b, now)
			in := frame{from: b.Client, to: b.Server, payload: channelData(number, data(9)), hops: 64}.bytes()
			entry, wide := &p.entries.all[c.toPeer], &p.entries.wides[c.toPeer]
			entry.Key.Channel++
			checkUp(t, p, in, nil, NumReasons)
			entry.Key.Channel--
			if entry.Key.Ipv6 == 1 {
				wide.Key.Destination[2]++
				checkUp(t, p, in, nil, NumReasons)
				wide.Key.Destination[2]--
			}
			checkRelayed(t, p, frame{from: b.Client, to: b.Server, payload: channelData(number, data(9)), hops: 64},
				frame{from: b.Relay, to: b.Peer, payload: data(9), hops: 63})
		})
	}
}

// TestZeroHash relays with a key whose hash is zero, as in slots that are not in use.
func TestZeroHash(t *testing.T) {
	now := time.Now()
	b := bindings(now)["IPv4"]
	p := loadForTest(t, 4)
	p.control.Factors = [len(p.control.Factors)]uint64{4: 1 << 56} // of the channel number
	if _, err := p.Add(b, now); err != nil {
		t.Fatal(err)
	}
	checkUp(t, p, frame{from: b.Client, to: b.Server, payload: channelData(number, data(9)), hops: 64}.bytes(), nil, Unproven)
	checkRelayed(t, p, frame{from: b.Peer, to: b.Relay, payload: data(9), hops: 64},
		frame{from: b.Server, to: b.Client, payload: channelData(number, data(9)), hops: 63})
}
