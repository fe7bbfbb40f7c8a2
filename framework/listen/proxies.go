package listen

import (
	"net/netip"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

// Proxies are networks whose connections begin with a header of the PROXY protocol.
type Proxies []netip.Prefix

// Contains reports whether a connection from addr has to begin with a header.
func (p Proxies) Contains(addr netip.Addr) bool {
	for _, network := range p {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// DecodeProxies takes the networks of a configuration, and refuses those that hold every address.
func DecodeProxies(v config.Value[[]netip.Prefix]) (proxies Proxies, diags hcl.Diagnostics) {
	for i, network := range v.V {
		if network.Bits() == 0 {
			diags = append(diags, config.WithHint(config.Errorf(v.At(i), "Everybody would be a proxy",
				"%v holds every address: any client could claim to be another one, and one that sends no header could not connect.", network),
				"name the addresses of your proxies, such as 10.0.0.5/32"))
			continue
		}
		proxies = append(proxies, network.Masked())
	}
	return proxies, diags
}
