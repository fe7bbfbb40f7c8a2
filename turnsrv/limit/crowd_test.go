package limit

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func TestCrowdGivesUpTheLargestNetworksOldest(t *testing.T) {
	var c Crowd[string]
	if m, ok := c.First(); ok {
		t.Fatalf("an empty crowd gives up %q", m)
	}
	for _, member := range []string{"192.0.2.1 a", "198.51.100.1 b", "192.0.2.200 c", "203.0.113.1 d", "192.0.2.1 e",
		"198.51.100.9 f"} {
		var addr, name string
		if _, err := fmt.Sscan(member, &addr, &name); err != nil {
			t.Fatal(err)
		}
		c.Add(name, netip.MustParseAddr(addr))
	}
	for addr, want := range map[string]bool{"192.0.2.77": true, "198.51.100.1": false, "8.8.8.8": false} {
		if got := c.Leads(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s leads: %v, want %v", addr, got, want)
		}
	}
	// Three in 192.0.2.0/24, two in 198.51.100.0/24, one in 203.0.113.0/24. Of equally large networks, the one that reached its
	// size first comes first.
	var got []string
	for range 6 {
		m, ok := c.First()
		if !ok || !c.Remove(m) || c.Remove(m) {
			t.Fatalf("after %v: %q, %v", got, m, ok)
		}
		got = append(got, m)
	}
	if !c.Leads(netip.MustParseAddr("192.0.2.1")) {
		t.Error("in an empty crowd, another network has more members")
	}
	if want := []string{"a", "b", "c", "d", "f", "e"}; !slices.Equal(got, want) {
		t.Errorf("given up in the order %v, want %v", got, want)
	}
	if c.Len() != 0 || len(c.networks) != 0 || len(c.bySize) != 0 {
		t.Errorf("an empty crowd holds %d members, %d networks, %d sizes", c.Len(), len(c.networks), len(c.bySize))
	}
}

// TestCrowdAgainstCounting compares a crowd under random use with counting by hand.
func TestCrowdAgainstCounting(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var c Crowd[int]
	network := make(map[int]byte)
	var order []int // the oldest first
	for i := range 20000 {
		if random.IntN(100) < 52 && len(order) < 300 {
			network[i] = byte(min(random.IntN(12), random.IntN(12)))
			c.Add(i, netip.AddrFrom4([4]byte{10, 0, network[i], byte(i)}))
			order = append(order, i)
		} else if len(order) > 0 {
			m, ok := c.First()
			if random.IntN(2) == 0 {
				m = order[random.IntN(len(order))]
			}
			if !ok || !c.Remove(m) {
				t.Fatalf("step %d: %d, %v", i, m, ok)
			}
			order = slices.DeleteFunc(order, func(o int) bool { return o == m })
		}
		sizes := make(map[byte]int)
		for _, m := range order {
			sizes[network[m]]++
		}
		m, ok := c.First()
		if ok != (len(order) > 0) || c.Len() != len(order) {
			t.Fatalf("step %d: %d members, first %v, want %d", i, c.Len(), ok, len(order))
		}
		if !ok {
			continue
		}
		for _, size := range sizes {
			if size > sizes[network[m]] {
				t.Fatalf("step %d: %d is of a network of %d, and there is one of %d", i, m, sizes[network[m]], size)
			}
		}
		if oldest := order[slices.IndexFunc(order, func(o int) bool { return network[o] == network[m] })]; oldest != m {
			t.Fatalf("step %d: %d is not the oldest of its network, which is %d", i, m, oldest)
		}
	}
}
