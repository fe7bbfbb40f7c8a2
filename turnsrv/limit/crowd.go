package limit

import (
	"container/list"
	"net/netip"
)

// Crowd holds members that have a place although nobody has authenticated them, by the source network they come from. When
// there are too many, First is the one to give up: the oldest of the network that has the most. So whoever floods a server
// displaces himself, and others only within his own network, where the oldest has had the most time to get on.
//
// Each operation takes constant time. The zero value is empty. It has no lock.
type Crowd[M comparable] struct {
	places   map[M]crowdPlace
	networks map[netip.Prefix]*crowdNetwork
	bySize   []*list.List // of *crowdNetwork; the list at n has those of n+1 members. The last one is not empty
}

// crowdNetwork is what a crowd has of one network.
type crowdNetwork struct {
	prefix  netip.Prefix
	members list.List     // the oldest first
	place   *list.Element // in crowd.bySize
}

type crowdPlace struct {
	network *crowdNetwork
	member  *list.Element
}

// Add makes m, which comes from addr and is no member yet, the newest member.
func (c *Crowd[M]) Add(m M, addr netip.Addr) {
	if c.places == nil {
		c.places = make(map[M]crowdPlace)
		c.networks = make(map[netip.Prefix]*crowdNetwork)
	}
	prefix := Network(addr)
	n := c.networks[prefix]
	if n == nil {
		n = &crowdNetwork{prefix: prefix}
		c.networks[prefix] = n
	}
	c.unlist(n)
	c.places[m] = crowdPlace{n, n.members.PushBack(m)}
	c.list(n)
}

// Remove takes m out and reports whether it was a member.
func (c *Crowd[M]) Remove(m M) bool {
	place, ok := c.places[m]
	if !ok {
		return false
	}
	n := place.network
	c.unlist(n)
	delete(c.places, m)
	n.members.Remove(place.member)
	c.list(n)
	return true
}

// First returns the oldest member of the largest network, and of several equally large ones of that which has been so for the
// longest. It reports false if there is no member.
func (c *Crowd[M]) First() (m M, ok bool) {
	if len(c.bySize) == 0 {
		return m, false
	}
	largest := c.bySize[len(c.bySize)-1].Front().Value.(*crowdNetwork)
	return largest.members.Front().Value.(M), true
}

// Len returns the number of members.
func (c *Crowd[M]) Len() int { return len(c.places) }

// list puts n where its size belongs, or forgets it if it is empty.
func (c *Crowd[M]) list(n *crowdNetwork) {
	size := n.members.Len()
	if size == 0 {
		delete(c.networks, n.prefix)
	} else {
		for len(c.bySize) < size {
			c.bySize = append(c.bySize, list.New())
		}
		n.place = c.bySize[size-1].PushBack(n)
	}
	for last := len(c.bySize) - 1; last >= 0 && c.bySize[last].Len() == 0; last-- {
		c.bySize = c.bySize[:last]
	}
}

// unlist takes n out of the list of its size, until list is called.
func (c *Crowd[M]) unlist(n *crowdNetwork) {
	if size := n.members.Len(); size > 0 {
		c.bySize[size-1].Remove(n.place)
	}
}
