package turn

import (
	"net/netip"
	"slices"
)

// interfaceAddress is an IPv6 address of one of this machine's interfaces.
type interfaceAddress struct {
	prefix netip.Prefix // the address with its length
	link   uint32       // the index of the interface
	// temporary addresses (RFC 8981) are replaced within days; other programs send from them, so that nobody is recognised
	// by a lasting one.
	temporary bool
	// usable is false for an address that is tested still, that another machine has too, that is about to be withdrawn
	// (RFC 4862 section 5.5.4), or that is only good within a link or a site.
	usable bool
}

// lasting returns the address that stands in for a temporary one: one of the same interface, of the same prefix if there
// is one, that is not temporary. Any other address, and one that nothing stands in for, is returned as it is.
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
