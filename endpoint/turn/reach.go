package turn

import (
	"net/netip"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/peer"
)

// onLoopback reports whether only programs of this machine reach the endpoint.
func (c *Config) onLoopback() bool { return listen.OnLoopback(c.Listen) }

// addressProblem says in a few words why a relayed address is no good: peers elsewhere cannot reach it, or not for long. It
// is empty for a good one, and for loopback where everything is on loopback.
func (c *Config) addressProblem(advertised netip.Addr) string {
	if special, ok := peer.SpecialPurpose(advertised); ok {
		if advertised.IsLoopback() && c.onLoopback() {
			return ""
		}
		return special.String() + ", which peers on the internet cannot reach"
	}
	if all, err := interfaceAddresses(); err == nil && isTemporary(advertised, all) { // an error is one of Start
		return "a temporary address (RFC 8981), which this machine gives up within days"
	}
	return ""
}

const relayIPHint = "set the permanent public address; behind a NAT, relay_bind is the machine's own"

// checkReach warns of addresses in relay_ip that are no good.
func (c *Config) checkReach(v config.Value[[]netip.Addr]) (diags hcl.Diagnostics) {
	for i, addr := range v.V {
		if problem := c.addressProblem(addr); problem != "" {
			diags = append(diags, config.WithHint(config.Warnf(v.At(i), "Relay cannot be reached", "relay_ip %s is %s.", addr, problem), relayIPHint))
		}
	}
	return diags
}

// CheckDetected warns of what is wrong with the addresses that Start would find by itself. Unlike Decode it asks this machine
// for them; it sends nothing.
func (c *Config) CheckDetected() (diags hcl.Diagnostics) {
	if len(c.RelayIP) > 0 {
		return nil
	}
	addresses, err := advertised(*c)
	if err != nil {
		return hcl.Diagnostics{config.Warnf(c.Range, "Relay has no address", "%v.", err)}
	}
	for _, addr := range addresses {
		if problem := c.addressProblem(addr); problem != "" {
			diags = append(diags, config.WithHint(config.Warnf(c.Range, "Relay cannot be reached",
				"Without relay_ip, the relay's address is %s: %s.", addr, problem), "set relay_ip: "+relayIPHint))
		}
	}
	return diags
}

// reachesLoopback reports whether policy lets peers be services of this machine that trust it.
func reachesLoopback(policy *peer.Policy) bool {
	for _, addr := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		if _, ok := policy.CheckAddr(addr); ok {
			return true
		}
	}
	return false
}

// checkPeers warns of loopback in peers, which the configuration for a try has.
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
