package peer

import (
	"iter"
	"net/netip"
)

var (
	prefix6to4       = netip.MustParsePrefix("2002::/16")
	prefixTeredo     = netip.MustParsePrefix("2001::/32")
	prefixNAT64      = netip.MustParsePrefix("64:ff9b::/96")
	prefixNAT64Own   = netip.MustParsePrefix("64:ff9b:1::/48")
	prefixMapped     = netip.MustParsePrefix("::ffff:0:0/96")
	prefixSIIT       = netip.MustParsePrefix("::ffff:0:0:0/96")
	prefixCompatible = netip.MustParsePrefix("::/96")
)

// translated yields the IPv4 addresses that a translator or tunnel may use for an IPv6 address: IPv4-compatible and IPv4-mapped
// (RFC 4291 section 2.5.5), IPv4-translated (RFC 2765), NAT64 (RFC 6052 section 2.2, RFC 8215, and the prefixes of this
// network), 6to4 (RFC 3056), both ends of Teredo (RFC 4380 section 4) and ISATAP (RFC 5214 section 6.1).
func (p *Policy) translated(addr netip.Addr) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		if addr.Is4() || addr.IsUnspecified() || addr.IsLoopback() { // :: and ::1 have the IPv4-compatible prefix but embed no address
			return
		}
		for _, prefix := range p.nat64 {
			if prefix.Contains(addr) && !yield(embeddedIPv4(addr, prefix.Bits())) {
				return
			}
		}
		b := addr.As16()
		last := netip.AddrFrom4([4]byte(b[12:16]))
		switch {
		case prefixMapped.Contains(addr), prefixSIIT.Contains(addr), prefixCompatible.Contains(addr), prefixNAT64.Contains(addr):
			yield(last)
		case prefixNAT64Own.Contains(addr):
			// Networks can divide the /48 as they like. These are the two usual forms, for a /96 and for the /48.
			_ = yield(last) && yield(netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}))
		case prefix6to4.Contains(addr):
			yield(netip.AddrFrom4([4]byte(b[2:6])))
		case prefixTeredo.Contains(addr):
			_ = yield(netip.AddrFrom4([4]byte(b[4:8]))) &&
				yield(netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
		case b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe:
			yield(last)
		}
	}
}
