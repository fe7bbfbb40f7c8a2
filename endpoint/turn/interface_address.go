package turn

import (
	"net/netip"
	"slices"
)

// interfaceAddress is an IPv6 address of an interface of this machine.
type interfaceAddress struct {
	prefix netip.Prefix // the address with its prefix length
	link   uint32       // the index of the interface
	// temporary addresses (RFC 8981) are replaced within days; programs send from them so that their user cannot be recognised by a
	// permanent one.
	temporary bool
	// usable is false for an address that is tentative, a duplicate or deprecated (RFC 4862 section 5.5.4), or valid only within a
	// link or a site.
	usable bool
}

// lasting returns the permanent address to use instead of a temporary one: one of the same interface, and of the same prefix if
// possible. It returns any other address, and one without a replacement, unchanged.
func lasting(addr netip.Addr, all []interfaceAddress) netip.Addr {
	i := slices.IndexFunc(all, func(a interfaceAddress) bool { return a.prefix.Addr() == addr && a.temporary })
	if i < 0 {
		return addr
	}
	found := addr
	for _, a := range all {
		switch candidate := a.prefix.Addr(); {
		case a.link != all[i].link || a.temporary || !a.usable || candidate.IsPrivate() != addr.IsPrivate():
		case a.prefix.Masked() == all[i].prefix.Masked():
			return candidate
		case found == addr:
			found = candidate
		}
	}
	return found
}

// isTemporary reports whether addr is a temporary address of this machine.
func isTemporary(addr netip.Addr, all []interfaceAddress) bool {
	return slices.ContainsFunc(all, func(a interfaceAddress) bool { return a.prefix.Addr() == addr && a.temporary })
}
