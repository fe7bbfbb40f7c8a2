package peer

import (
	"net/netip"
	"slices"
)

// NAT64Name is the name that a network with a NAT64 gives addresses of IPv6 to, RFC 7050 section 2.
const NAT64Name = "ipv4only.arpa"

// nat64Lengths are the lengths that the prefix of a NAT64 may have, RFC 6052 section 2.2.
var nat64Lengths = []int{32, 40, 48, 56, 64, 96}

// NAT64Prefixes returns the prefixes of the NAT64s of a network whose DNS has addrs for NAT64Name: those under which one of the
// two well-known addresses of IPv4 is found, RFC 7050 section 3.
func NAT64Prefixes(addrs []netip.Addr) []netip.Prefix {
	wellKnown := []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 170}), netip.AddrFrom4([4]byte{192, 0, 0, 171})}
	var found []netip.Prefix
	for _, addr := range addrs {
		if !addr.Is6() || addr.Is4In6() {
			continue
		}
		for _, bits := range nat64Lengths {
			prefix, _ := addr.WithZone("").Prefix(bits) // fails for lengths beyond the address only
			if slices.Contains(wellKnown, embeddedIPv4(addr, bits)) && !slices.Contains(found, prefix) {
				found = append(found, prefix)
			}
		}
	}
	return found
}

// embeddedIPv4 returns the address of IPv4 that addr has under a prefix of so many bits, which is one of nat64Lengths: RFC 6052
// section 2.2, where byte 8 is left out.
func embeddedIPv4(addr netip.Addr, bits int) netip.Addr {
	b := addr.As16()
	var v4 [4]byte
	at := bits / 8
	for i := range v4 {
		if at == 8 {
			at++
		}
		v4[i] = b[at]
		at++
	}
	return netip.AddrFrom4(v4)
}
