package peer

import (
	"net/netip"
	"slices"
)

// NAT64Name is the name for which a network with NAT64 synthesizes IPv6 addresses, RFC 7050 section 2.
const NAT64Name = "ipv4only.arpa"

// nat64Lengths are the valid lengths of a NAT64 prefix, RFC 6052 section 2.2.
var nat64Lengths = []int{32, 40, 48, 56, 64, 96}

// NAT64Prefixes returns the NAT64 prefixes of a network whose DNS returns addrs for NAT64Name: those under which one of the two
// well-known IPv4 addresses is embedded, RFC 7050 section 3.
func NAT64Prefixes(addrs []netip.Addr) []netip.Prefix {
	wellKnown := []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 170}), netip.AddrFrom4([4]byte{192, 0, 0, 171})}
	var found []netip.Prefix
	for _, addr := range addrs {
		if !addr.Is6() || addr.Is4In6() {
			continue
		}
		for _, bits := range nat64Lengths {
			prefix, _ := addr.WithZone("").Prefix(bits) // fails only for lengths beyond the address
			if slices.Contains(wellKnown, embeddedIPv4(addr, bits)) && !slices.Contains(found, prefix) {
				found = append(found, prefix)
			}
		}
	}
	return found
}

// embeddedIPv4 returns the IPv4 address embedded in addr under a prefix of the given length, one of nat64Lengths. RFC 6052
// section 2.2 skips byte 8.
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
