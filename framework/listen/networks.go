package listen

import (
	"net/netip"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

// Networks are the networks of trusted clients, such as proxies.
type Networks []netip.Prefix

// Contains reports whether addr, which must not be an IPv4-mapped IPv6 address, is in one of them.
func (n Networks) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(n, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// DecodeProxies checks the networks of proxies, which are trusted to name a client's address, and refuses those that contain every
// address.
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
