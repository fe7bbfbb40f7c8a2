package listen

import (
	"net/netip"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

// Networks are those of clients that are trusted with something, such as proxies.
type Networks []netip.Prefix

// Contains reports whether addr, which is not an IPv4 address in the form of an IPv6 one, is in one of them.
func (n Networks) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(n, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// DecodeProxies takes the networks of proxies, whose word about where a client comes from is taken, and refuses those that
// hold every address.
func DecodeProxies(v config.Value[[]netip.Prefix]) (proxies Networks, diags hcl.Diagnostics) {
	for i, network := range v.V {
		if network.Bits() == 0 {
			diags = append(diags, config.WithHint(config.Errorf(v.At(i), "Every client would be a trusted proxy",
				"%v contains every address: any client could claim another address.", network),
				"list the addresses of your proxies, such as 10.0.0.5/32"))
			continue
		}
		proxies = append(proxies, network)
	}
	return proxies, diags
}
