package turn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/turn/publicip"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/resolver"
)

// autoRelayIP is the value of relay_ip for addresses that mailturn finds.
const autoRelayIP = "auto"

// RelayIP is an element of relay_ip: an address, or the zero Addr for "auto".
type RelayIP struct{ netip.Addr }

// UnmarshalText accepts an IP address or "auto".
func (r *RelayIP) UnmarshalText(text []byte) error {
	if string(text) == autoRelayIP {
		*r = RelayIP{}
		return nil
	}
	addr, err := netip.ParseAddr(string(text))
	if err != nil {
		return fmt.Errorf("want an IP address such as %q, or %q", "198.51.100.7", autoRelayIP)
	}
	*r = RelayIP{addr}
	return nil
}

// MarshalText is the inverse of UnmarshalText.
func (r RelayIP) MarshalText() ([]byte, error) {
	if !r.IsValid() {
		return []byte(autoRelayIP), nil
	}
	return r.Addr.MarshalText()
}

// decodeRelayIP sets RelayIP, or RelayIPFrom.
func (c *Config) decodeRelayIP(v config.Value[[]RelayIP], from config.Value[[]publicip.Source]) (diags hcl.Diagnostics) {
	auto := slices.ContainsFunc(v.V, func(r RelayIP) bool { return !r.IsValid() })
	switch {
	case auto && len(v.V) > 1:
		return hcl.Diagnostics{config.WithHint(config.Errorf(v.Range, "relay_ip is contradictory", "It contains %q and more.", autoRelayIP),
			"write either addresses or \"auto\"")}
	case from.Set && len(v.V) > 0 && !auto:
		return hcl.Diagnostics{config.WithHint(config.Errorf(from.Range, "relay_ip_from has no effect", "relay_ip contains the addresses."),
			`remove relay_ip_from, or set relay_ip = "auto"`)}
	case auto || from.Set:
		c.RelayIPAuto = true
		return c.decodeSources(from)
	}
	addresses := config.Value[[]netip.Addr]{Set: v.Set, Range: v.Range, Elems: v.Elems}
	for _, r := range v.V {
		addresses.V = append(addresses.V, r.Addr)
	}
	c.RelayIP = addresses.V
	if diags = checkRelayAddrs(addresses, "relay_ip"); !diags.HasErrors() {
		diags = c.checkReach(addresses)
	}
	return diags
}

// decodeSources sets RelayIPFrom.
func (c *Config) decodeSources(from config.Value[[]publicip.Source]) (diags hcl.Diagnostics) {
	if from.V != nil && len(from.V) == 0 {
		return hcl.Diagnostics{config.WithHint(config.Errorf(from.Range, "No source", "The list is empty."), "omit the attribute to use its default")}
	}
	for i, source := range from.V {
		if source.Kind == publicip.DNS && source.Host == "" && c.Hostname == "" {
			diags = append(diags, config.WithHint(config.Errorf(from.At(i), "Name is missing", "The file sets no hostname to look up."),
				`name it: "dns:turn.example.org"`))
		}
	}
	c.RelayIPFrom = from.V
	return diags
}

// finder returns what finds the addresses of the relay, and nil if the configuration has them.
func (c Config) finder() *publicip.Finder {
	sources := c.RelayIPFrom
	if len(sources) == 0 {
		if len(c.RelayIP) > 0 || !c.RelayIPAuto && len(listenedOn(c)) > 0 {
			return nil
		}
		sources = []publicip.Source{{Kind: publicip.Interface}}
	}
	return &publicip.Finder{Sources: sources, Hostname: c.Hostname, Interfaces: routedAddresses, Lookup: lookupPublic, Problem: c.addressProblem}
}

// routedAddresses returns the addresses from which this machine sends to the internet, or permanent ones instead of temporary ones.
func routedAddresses() ([]netip.Addr, error) {
	all, err := interfaceAddresses()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	addresses := routed()
	if len(addresses) == 0 {
		return nil, errors.New("no route to the internet")
	}
	for i, addr := range addresses {
		addresses[i] = lasting(addr, all)
	}
	return addresses, nil
}

// lookupPublic asks only the DNS, because /etc/hosts may have another address for this machine than its clients see.
func lookupPublic(ctx context.Context, name string) ([]netip.Addr, error) {
	system, err := resolver.System()
	if err != nil {
		return nil, err
	}
	system.Hosts = nil
	answer, err := system.Lookup(ctx, name)
	return answer.Addrs(), err
}
