package turn

import (
	"context"
	"net/netip"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/turn/publicip"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/peer"
)

// onLoopback reports whether only programs on this machine can reach the endpoint.
func (c *Config) onLoopback() bool { return listen.OnLoopback(c.Listen) }

// addressProblem returns in a few words why an address cannot serve as a relayed address: peers elsewhere cannot reach it, or not
// for long. It is empty for a good one, and for loopback if everything is on loopback.
func (c *Config) addressProblem(advertised netip.Addr) string {
	if special, ok := peer.SpecialPurpose(advertised); ok {
		if advertised.IsLoopback() && c.onLoopback() {
			return ""
		}
		return special.String() + ", which peers on the internet cannot reach"
	}
	if all, err := interfaceAddresses(); err == nil && isTemporary(advertised, all) { // Start reports an error
		return "a temporary address (RFC 8981), which this machine gives up within days"
	}
	return ""
}

const relayIPHint = "set the permanent public address; behind a NAT, relay_bind is the machine's own"

// checkReach warns about addresses in relay_ip that cannot serve as relayed addresses.
func (c *Config) checkReach(v config.Value[[]netip.Addr]) (diags hcl.Diagnostics) {
	for i, addr := range v.V {
		if problem := c.addressProblem(addr); problem != "" {
			diags = append(diags, config.WithHint(config.Warnf(v.At(i), "Relay cannot be reached", "relay_ip %s is %s.", addr, problem), relayIPHint))
		}
	}
	return diags
}

// CheckDetected warns about problems of the addresses that Start would detect. Unlike Decode it asks this machine for them; it
// sends nothing.
func (c *Config) CheckDetected() (diags hcl.Diagnostics) {
	if len(c.RelayIP) > 0 || slices.ContainsFunc(c.RelayIPFrom, func(s publicip.Source) bool { return !s.Local() }) {
		return nil
	}
	addresses := c.configured()
	if finder := c.finder(); finder != nil {
		found, err := finder.Find(context.Background(), true)
		if err != nil {
			return hcl.Diagnostics{config.Warnf(c.Range, "Relay has no address", "%v.", errNoRelayAddress)}
		}
		addresses = addrsOf(found)
	}
	for _, addr := range c.forEngine(addresses) {
		if problem := c.addressProblem(addr); problem != "" {
			diags = append(diags, config.WithHint(config.Warnf(c.Range, "Relay cannot be reached",
				"Without relay_ip, the relay's address is %s: %s.", addr, problem), "set relay_ip: "+relayIPHint))
		}
	}
	return diags
}

// reachesLoopback reports whether policy allows peers on loopback, such as services that trust this machine.
func reachesLoopback(policy *peer.Policy) bool {
	for _, addr := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		if _, ok := policy.CheckAddr(addr); ok {
			return true
		}
	}
	return false
}

// checkPeers warns about loopback in peers, as in the demo configuration.
func (c *Config) checkPeers() hcl.Diagnostics {
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	policy := peer.New(peer.Rules{Allow: c.Peers.Allow.V, Deny: c.Peers.Deny, Local: loopback})
	if c.onLoopback() || !reachesLoopback(policy) {
		return nil
	}
	return hcl.Diagnostics{config.WithHint(config.Warnf(c.Peers.Allow.Range, "Peers may be services of this machine",
		"allow opens loopback addresses to every user of the relay, and services on this machine may trust connections from there."),
		"remove loopback addresses from allow")}
}
