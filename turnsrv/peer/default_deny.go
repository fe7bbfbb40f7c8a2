package peer

import (
	"net/netip"
	"slices"
)

// Special is a range of addresses that are not globally reachable, or that stand for other addresses.
type Special struct {
	Prefix netip.Prefix
	What   string // description of one address of the range: "a private address"
	RFC    string // its definition: "RFC 1918"
	// Local ranges are used within one host, site or provider. Other ranges are unassigned or routed elsewhere.
	Local bool
}

// specials contains the ranges that the IANA special-purpose registries do not call globally reachable, multicast, and all
// ranges that embed an IPv4 address, because the networks behind a translator next to the relay must not be reachable.
var specials = []Special{
	special("0.0.0.0/8", "an address of this network", "RFC 791"),
	local("10.0.0.0/8", "a private address", "RFC 1918"),
	local("100.64.0.0/10", "an address behind a carrier's NAT", "RFC 6598"),
	local("127.0.0.0/8", "a loopback address", "RFC 6890"),
	local("169.254.0.0/16", "a link-local address", "RFC 3927"), // and cloud metadata
	local("172.16.0.0/12", "a private address", "RFC 1918"),
	special("192.0.0.0/24", "an address for protocol assignments", "RFC 6890"),
	special("192.0.2.0/24", "a documentation address", "RFC 5737"),
	special("192.31.196.0/24", "an AS112 address", "RFC 7535"),
	special("192.52.193.0/24", "an AMT address", "RFC 7450"),
	special("192.88.99.0/24", "a 6to4 relay address", "RFC 7526"),
	local("192.168.0.0/16", "a private address", "RFC 1918"),
	special("192.175.48.0/24", "an AS112 address", "RFC 7534"),
	special("198.18.0.0/15", "a benchmarking address", "RFC 2544"),
	special("198.51.100.0/24", "a documentation address", "RFC 5737"),
	special("203.0.113.0/24", "a documentation address", "RFC 5737"),
	special("224.0.0.0/4", "a multicast address", "RFC 5771"),
	special("240.0.0.0/4", "a reserved address", "RFC 1112"), // and broadcast

	local("::1/128", "a loopback address", "RFC 6890"),
	special("::/96", "an unspecified or IPv4-compatible address", "RFC 4291"),
	special("::ffff:0:0/96", "an IPv4-mapped address", "RFC 4291"),
	special("::ffff:0:0:0/96", "an IPv4-translated address", "RFC 2765"),
	special("64:ff9b::/96", "a NAT64 address", "RFC 6052"),
	special("64:ff9b:1::/48", "a NAT64 address", "RFC 8215"),
	special("100::/64", "a discard address", "RFC 6666"),
	special("100:0:0:1::/64", "a dummy address", "RFC 9780"),
	special("2001::/23", "an address for protocol assignments", "RFC 2928"), // Teredo and ORCHID among them
	special("2001:db8::/32", "a documentation address", "RFC 3849"),
	special("2002::/16", "a 6to4 address", "RFC 3056"),
	special("2620:4f:8000::/48", "an AS112 address", "RFC 7534"),
	special("3fff::/20", "a documentation address", "RFC 9637"),
	special("5f00::/16", "a segment routing address", "RFC 9602"),
	local("fc00::/7", "a unique local address", "RFC 4193"),
	local("fe80::/10", "a link-local address", "RFC 4291"),
	local("fec0::/10", "a site-local address", "RFC 3879"),
	special("ff00::/8", "a multicast address", "RFC 4291"),
}

func special(prefix, what, rfc string) Special {
	return Special{Prefix: netip.MustParsePrefix(prefix), What: what, RFC: rfc}
}

func local(prefix, what, rfc string) Special {
	return Special{Prefix: netip.MustParsePrefix(prefix), What: what, RFC: rfc, Local: true}
}

// String returns the description with the RFC.
func (s Special) String() string { return s.What + " (" + s.RFC + ")" }

// SpecialPurpose returns the special range that contains addr. It reports false for a globally reachable address. A relay at
// such an address can be reached by others, as far as the form of an address can show that.
func SpecialPurpose(addr netip.Addr) (Special, bool) {
	i := slices.IndexFunc(specials, func(s Special) bool { return s.Prefix.Contains(addr.WithZone("")) })
	if i < 0 {
		return Special{}, false
	}
	return specials[i], true
}

// reflectorPorts are the ports of UDP services whose responses are larger than requests, or that answer each other endlessly.
var reflectorPorts = []uint16{0, 7, 19, 53, 69, 111, 123, 137, 138, 139, 161, 389, 1900, 5353, 11211}

// DefaultDeny returns the prefixes that are refused unless Rules.Allow contains them.
func DefaultDeny() []netip.Prefix {
	prefixes := make([]netip.Prefix, len(specials))
	for i, s := range specials {
		prefixes[i] = s.Prefix
	}
	return prefixes
}

func prefixes(list ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(list))
	for i, s := range list {
		parsed[i] = netip.MustParsePrefix(s)
	}
	return parsed
}
