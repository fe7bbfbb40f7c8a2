package relay

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// addresses are the addresses of an allocator. They are not modified.
type addresses struct {
	present [2]*family // of new relayed addresses, by index; nil for a family without one
	all     []*family  // these, and former ones that have relayed addresses
}

// index returns the index of a family in addresses.present.
func index(id stun.Family) int {
	if id == stun.IPv6 {
		return 1
	}
	return 0
}

// family returns the address of a family, or nil if the relay has none, or if there is no such family.
func (a *Allocator) family(id stun.Family) *family {
	if id != stun.IPv4 && id != stun.IPv6 {
		return nil
	}
	return a.current.Load().present[index(id)]
}

// SetAddresses replaces Config.Addresses. Relayed addresses that exist keep theirs.
func (a *Allocator) SetAddresses(list []Address) error {
	if len(list) == 0 {
		return errors.New("relay address is missing")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	former := a.current.Load()
	next := new(addresses)
	for _, addr := range list {
		addr.Bind, addr.Advertise = addr.Bind.Unmap(), addr.Advertise.Unmap()
		if !addr.Bind.IsValid() || !addr.Advertise.IsValid() || addr.Bind.Is4() != addr.Advertise.Is4() {
			return fmt.Errorf("relay address %v requires a bind address of its own family, not %v", addr.Advertise, addr.Bind)
		}
		if addr.Advertise.IsUnspecified() {
			return fmt.Errorf("relay address %v is unspecified and cannot be advertised", addr.Advertise)
		}
		at := index(stun.FamilyOf(addr.Bind))
		if next.present[at] != nil {
			return fmt.Errorf("relay address %v: another address of this family is already configured", addr.Advertise)
		}
		next.present[at] = a.familyAt(former, addr)
		next.all = append(next.all, next.present[at])
	}
	for _, f := range former.all {
		if !slices.Contains(next.all, f) && f.sockets.Load() > 0 {
			next.all = append(next.all, f)
		}
	}
	a.current.Store(next)
	return nil
}

// familyAt returns the family of addr among former ones, or a new one. The latter shares the ports of the one that it replaces, so that
// a port is in use at one address at a time.
func (a *Allocator) familyAt(former *addresses, addr Address) *family {
	for _, f := range former.all {
		if f.Address == addr {
			return f
		}
	}
	f := &family{
		allocator: a, Address: addr, id: stun.FamilyOf(addr.Bind), network: "udp6",
		minPort: uint16(a.minPort), opened: make([]atomic.Pointer[Conn], a.maxPort-a.minPort+1),
	}
	if f.id == stun.IPv4 {
		f.network = "udp4"
	}
	i := slices.IndexFunc(former.all, func(other *family) bool { return other.id == f.id })
	if i >= 0 {
		f.ports = former.all[i].ports
	} else {
		f.ports = &ports{used: make(map[uint16]bool)}
	}
	return f
}
