package limit

import (
	"container/list"
	"net/netip"
)

// Crowd is a set of unauthenticated members, grouped by the network of their source address. When there are too many, First
// returns the one to remove: the oldest one of the network with the most members. A flood therefore displaces its own members.
// It can displace others only in its own network, and there the oldest have had the most time to authenticate.
//
// Each operation takes constant time. The zero value is empty. Not safe for concurrent use.
type Crowd[M comparable] struct {
	places   map[M]crowdPlace
	networks map[netip.Prefix]*crowdNetwork
	bySize   []*list.List // of *crowdNetwork; list n contains the networks with n+1 members. The last list is not empty
}

// crowdNetwork contains the members of one network.
type crowdNetwork struct {
	prefix  netip.Prefix
	members list.List     // oldest first
	place   *list.Element // in crowd.bySize
}

type crowdPlace struct {
	network *crowdNetwork
	member  *list.Element
}

// Add adds m, which has the source address addr and is not a member yet, as the newest member.
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

// Remove removes m and reports whether it was a member.
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

// First returns the oldest member of the largest network. If several networks are equally large, it selects the one that
// reached that size first. It reports false if there are no members.
func (c *Crowd[M]) First() (m M, ok bool) {
	if len(c.bySize) == 0 {
		return m, false
	}
	largest := c.bySize[len(c.bySize)-1].Front().Value.(*crowdNetwork)
	return largest.members.Front().Value.(M), true
}

// Leads reports whether no network has more members than that of addr.
func (c *Crowd[M]) Leads(addr netip.Addr) bool {
	size := 0
	if n := c.networks[Network(addr)]; n != nil {
		size = n.members.Len()
	}
	return size == len(c.bySize)
}

// Len returns the number of members.
func (c *Crowd[M]) Len() int { return len(c.places) }

// list adds n to the list of its size, or deletes it if it is empty.
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

// unlist removes n from the list of its size.
func (c *Crowd[M]) unlist(n *crowdNetwork) {
	if size := n.members.Len(); size > 0 {
		c.bySize[size-1].Remove(n.place)
	}
}
