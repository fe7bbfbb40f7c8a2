package session

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestIndexAgainstMap adds and removes allocations at random, most of whose keys have the hash of another one.
func TestIndexAgainstMap(t *testing.T) {
	for _, hashes := range []uint64{1, 3, 1 << 60} {
		x := newIndex[Client, *allocation]()
		x.hash = func(c Client) uint64 { return uint64(c.Tuple.Client.Port()) % hashes }
		want := make(map[Client]*allocation)
		random := rand.New(rand.NewPCG(1, hashes))
		for range 20_000 {
			var a allocation
			a.client.Tuple.Client = addrPort(random.IntN(40))
			switch known := want[a.client]; {
			case x.get(a.client) != known:
				t.Fatalf("%d hashes: got %p, want %p", hashes, x.get(a.client), known)
			case known != nil:
				x.remove(known)
				delete(want, a.client)
			default:
				x.add(&a)
				want[a.client] = &a
			}
			if x.len() != len(want) {
				t.Fatalf("%d hashes: length %d, want %d", hashes, x.len(), len(want))
			}
		}
		found := make(map[Client]*allocation)
		for a := range x.all {
			found[a.client] = a
			x.remove(a)
		}
		for client, a := range want {
			if found[client] != a {
				t.Errorf("%d hashes: all yields %p, want %p", hashes, found[client], a)
			}
		}
		if len(found) != len(want) || len(found) < 10 || x.len() != 0 || len(x.chains) != 0 {
			t.Errorf("%d hashes: all yields %d of %d, and leaves %d in %d chains", hashes, len(found), len(want), x.len(), len(x.chains))
		}
	}
}

// BenchmarkIndex measures the search for the allocation of a client beside 10,000 others, in an index and in a map.
func BenchmarkIndex(b *testing.B) {
	s := newBareSession(b)
	byKey := make(map[Client]*allocation)
	var clients []Client
	for i := range 10_000 {
		a := new(allocation)
		a.client.Tuple.Client = addrPort(i)
		a.client.Tuple.Server = addrPort(1)
		s.allocations.add(a)
		byKey[a.client] = a
		clients = append(clients, a.client)
	}
	b.Run("index", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			_ = s.allocations.get(clients[i*7919%len(clients)])
		}
	})
	b.Run("map", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			_ = byKey[clients[i*7919%len(clients)]]
		}
	})
}

func addrPort(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i >> 16)}), uint16(i))
}
