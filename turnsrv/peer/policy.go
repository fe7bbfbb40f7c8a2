// Package peer decides which peers a relay may reach.
//
// A relay sends packets on behalf of others. It must not give them access through its own place in the network: to addresses
// that only it can reach, to services that trust the local host, or to ports that would answer a small packet with a large one
// to a third party.
package peer

import (
	"net/netip"
	"slices"
)

// Rules configure a Policy. The zero value refuses the addresses of DefaultDeny and nothing else.
type Rules struct {
	// Allow allows addresses that DefaultDeny would refuse. A prefix overrides Own and Local only if all of it belongs to this
	// machine, such as 127.0.0.0/8 or a single address. Allowing a network of which this machine is a part does not allow the
	// machine itself.
	Allow []netip.Prefix
	// Deny refuses addresses regardless of all other rules.
	Deny []netip.Prefix
	// Own contains the addresses that the relays of this machine advertise, and other addresses of the machine.
	Own []netip.Addr
	// Local contains the prefixes that this machine routes to itself, as returned by LocalPrefixes.
	Local []netip.Prefix
	// NAT64 contains the NAT64 prefixes of this machine's network, as returned by NAT64Prefixes. They are refused in the same way
	// as the well-known ones.
	NAT64 []netip.Prefix
}

// Policy decides whether a peer may be reached. It is immutable and safe for concurrent use.
type Policy struct {
	allow, deny, byDefault families
	own                    map[netip.Addr]struct{}
	local                  families
	allowOwn               families // the prefixes of allow that override own and local
	nat64                  []netip.Prefix
}

var loopbacks = prefixes("127.0.0.0/8", "::1/128")

// meansThisMachine reports whether all of an allowed prefix belongs to this machine: a single address, or a part of the
// loopback addresses or of the local prefixes.
func meansThisMachine(allowed netip.Prefix, local []netip.Prefix) bool {
	within := func(p netip.Prefix) bool { return p.Bits() <= allowed.Bits() && p.Contains(allowed.Addr()) }
	return allowed.IsSingleIP() || slices.ContainsFunc(loopbacks, within) || slices.ContainsFunc(local, within)
}

// families contains prefixes by address family, so that an IPv4 address is not compared with IPv6 prefixes.
type families struct {
	v4, v6 []netip.Prefix
}

func newFamilies(prefixes []netip.Prefix) (f families) {
	for _, p := range prefixes {
		if p = p.Masked(); p.Addr().Is4() {
			f.v4 = append(f.v4, p)
		} else {
			f.v6 = append(f.v6, p)
		}
	}
	return f
}

func (f *families) find(addr netip.Addr) (netip.Prefix, bool) {
	list := f.v6
	if addr.Is4() {
		list = f.v4
	}
	for _, p := range list {
		if p.Contains(addr) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// New compiles rules into a Policy.
func New(rules Rules) *Policy {
	p := &Policy{
		allow:     newFamilies(rules.Allow),
		deny:      newFamilies(rules.Deny),
		byDefault: newFamilies(slices.Concat(DefaultDeny(), rules.NAT64)),
		nat64:     slices.Clone(rules.NAT64),
		own:       make(map[netip.Addr]struct{}, len(rules.Own)),
	}
	p.allowOwn = newFamilies(slices.DeleteFunc(slices.Clone(rules.Allow), func(allowed netip.Prefix) bool {
		return !meansThisMachine(allowed, rules.Local)
	}))
	for _, addr := range rules.Own {
		p.own[addr.Unmap().WithZone("")] = struct{}{}
	}
	var subnets []netip.Prefix
	for _, prefix := range rules.Local {
		if prefix.IsSingleIP() {
			p.own[prefix.Addr()] = struct{}{}
		} else {
			subnets = append(subnets, prefix)
		}
	}
	p.local = newFamilies(subnets)
	return p
}

// CheckAddr reports whether a permission for addr is allowed, RFC 8656 section 10.2. If it is not, rule is the rule that
// refuses it, from a closed set and including the prefix, suitable for a log line.
//
// An address that embeds an IPv4 address (mapped, 6to4, NAT64 and others) is allowed only if both addresses are.
func (p *Policy) CheckAddr(addr netip.Addr) (rule string, ok bool) {
	if addr.Zone() != "" || !addr.IsValid() {
		return "invalid address or address with a zone", false
	}
	if rule, ok := p.checkForm(addr); !ok {
		return rule, false
	}
	for inner := range p.translated(addr) {
		if rule, ok := p.checkForm(inner); !ok {
			return "embedded IPv4 address: " + rule, false
		}
	}
	return "", true
}

// Check is like CheckAddr for a transport address. It also refuses reflector ports at every address.
func (p *Policy) Check(addr netip.AddrPort) (rule string, ok bool) {
	if slices.Contains(reflectorPorts, addr.Port()) {
		return "reflector port", false
	}
	return p.CheckAddr(addr.Addr())
}

// Denied reports whether addr is refused by Rules.Deny. Nothing overrides that, not even if addr is a relayed transport address
// of this server.
func (p *Policy) Denied(addr netip.Addr) (rule string, denied bool) {
	if prefix, ok := p.deny.find(addr); ok {
		return "denied " + prefix.String(), true
	}
	for inner := range p.translated(addr) {
		if prefix, ok := p.deny.find(inner); ok {
			return "embedded IPv4 address: denied " + prefix.String(), true
		}
	}
	return "", false
}

func (p *Policy) checkForm(addr netip.Addr) (rule string, ok bool) {
	if prefix, denied := p.deny.find(addr); denied {
		return "denied " + prefix.String(), false
	}
	if _, allowed := p.allowOwn.find(addr); allowed {
		return "", true
	}
	_, allowed := p.allow.find(addr)
	if prefix, denied := p.byDefault.find(addr); denied && !allowed {
		return "default " + prefix.String(), false
	}
	if p.isOwn(addr) {
		return "address of this server", false
	}
	return "", true
}

// isOwn reports whether addr belongs to this machine.
func (p *Policy) isOwn(addr netip.Addr) bool {
	if _, own := p.own[addr]; own {
		return true
	}
	_, own := p.local.find(addr)
	return own
}
