package peer

import (
	"net/netip"
	"slices"
)

// defaultDeny: what the IANA special-purpose registries do not call globally reachable, multicast, and everything that
// hides an IPv4 address, because what is behind a translator next to the relay is not the relay's to offer.
var defaultDeny = prefixes(
	"0.0.0.0/8",       // this network, RFC 791
	"10.0.0.0/8",      // private, RFC 1918
	"100.64.0.0/10",   // carrier-grade NAT, RFC 6598
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link-local and cloud metadata, RFC 3927
	"172.16.0.0/12",   // private
	"192.0.0.0/24",    // protocol assignments, RFC 6890
	"192.0.2.0/24",    // documentation, RFC 5737
	"192.31.196.0/24", // AS112, RFC 7535
	"192.52.193.0/24", // AMT, RFC 7450
	"192.88.99.0/24",  // 6to4 relay anycast, RFC 7526
	"192.168.0.0/16",  // private
	"192.175.48.0/24", // AS112, RFC 7534
	"198.18.0.0/15",   // benchmarking, RFC 2544
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"224.0.0.0/4",     // multicast
	"240.0.0.0/4",     // reserved, and broadcast

	"::/96",             // unspecified, loopback, IPv4-compatible
	"::ffff:0:0/96",     // IPv4-mapped
	"::ffff:0:0:0/96",   // IPv4-translated
	"64:ff9b::/96",      // NAT64, RFC 6052
	"64:ff9b:1::/48",    // NAT64, RFC 8215
	"100::/64",          // discard, RFC 6666
	"100:0:0:1::/64",    // dummy, RFC 9780
	"2001::/23",         // protocol assignments, Teredo, ORCHID
	"2001:db8::/32",     // documentation
	"2002::/16",         // 6to4
	"2620:4f:8000::/48", // AS112
	"3fff::/20",         // documentation, RFC 9637
	"5f00::/16",         // segment routing, RFC 9602
	"fc00::/7",          // unique local, RFC 4193
	"fe80::/10",         // link-local
	"fec0::/10",         // site-local, RFC 3879
	"ff00::/8",          // multicast
)

// reflectorPorts are those of UDP services that answer more than they were asked, or answer each other for ever.
var reflectorPorts = []uint16{0, 7, 19, 53, 69, 111, 123, 137, 138, 139, 161, 389, 1900, 5353, 11211}

// DefaultDeny returns the prefixes that are refused unless Rules.Allow opens them.
func DefaultDeny() []netip.Prefix { return slices.Clone(defaultDeny) }

func prefixes(list ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(list))
	for i, s := range list {
		parsed[i] = netip.MustParsePrefix(s)
	}
	return parsed
}
