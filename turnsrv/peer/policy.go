// Package peer decides which peers a relay may reach.
//
// A relay lends its own address to strangers. What it must not lend is its place in the network: addresses that are
// reachable only from here, services that trust the local host, and ports that would answer a small packet with a big
// one to somebody else.
package peer

import (
	"net/netip"
	"slices"
)

// Rules are what a Policy is made from. The zero value refuses the addresses of DefaultDeny and nothing else.
type Rules struct {
	// Allow opens addresses that DefaultDeny would refuse. A prefix opens what Own and Local would refuse only if all of it is
	// this machine's, such as 127.0.0.0/8 or a single address: a network that this machine is in does not open this machine.
	Allow []netip.Prefix
	// Deny refuses addresses whatever else is said about them.
	Deny []netip.Prefix
	// Own holds the addresses that the relays of this machine advertise, and others that are its own.
	Own []netip.Addr
	// Local holds what this machine sends to itself, as LocalPrefixes has it.
	Local []netip.Prefix
	// NAT64 holds the prefixes of NAT64s that this machine's network has, as NAT64Prefixes finds them, besides the well-known
	// ones. They are refused as those are.
	NAT64 []netip.Prefix
}

// Policy says whether a peer may be reached. It is immutable and safe for concurrent use.
type Policy struct {
	allow, deny, byDefault families
	own                    map[netip.Addr]struct{}
	local                  families
	allowOwn               families // those of allow that open own and local
	nat64                  []netip.Prefix
}

var loopbacks = prefixes("127.0.0.0/8", "::1/128")

// meansThisMachine reports whether all of an allowed prefix is this machine's, so that it was written for that: one address, or
// a part of the loopback addresses or of what this machine sends to itself.
func meansThisMachine(allowed netip.Prefix, local []netip.Prefix) bool {
	within := func(p netip.Prefix) bool { return p.Bits() <= allowed.Bits() && p.Contains(allowed.Addr()) }
	return allowed.IsSingleIP() || slices.ContainsFunc(loopbacks, within) || slices.ContainsFunc(local, within)
}

// families keeps prefixes apart by the family of their addresses: an IPv4 address need not be held against IPv6 ones.
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

// CheckAddr reports whether a permission may be given for addr, RFC 8656 section 10.2. If not, rule names what refuses
// it, as a value of a closed set with the prefix of the rule, fit for a log line.
//
// An address that carries an IPv4 address inside (mapped, 6to4, NAT64 ...) passes only if both pass.
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

// Check is CheckAddr for a transport address: it refuses the ports of reflectors too, and those at any address.
func (p *Policy) Check(addr netip.AddrPort) (rule string, ok bool) {
	if slices.Contains(reflectorPorts, addr.Port()) {
		return "reflector port", false
	}
	return p.CheckAddr(addr.Addr())
}

// Denied reports whether an operator's own rule refuses addr. Nothing overrides that, not even that addr is a relayed
// address of this server.
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

// isOwn reports whether addr is one that this machine takes for its own.
func (p *Policy) isOwn(addr netip.Addr) bool {
	if _, own := p.own[addr]; own {
		return true
	}
	_, own := p.local.find(addr)
	return own
}
