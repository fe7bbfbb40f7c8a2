// Package resolver looks up the addresses of a host in DNS and reports the details: the chain of CNAMEs, the TTLs, which server
// answered and how fast, and, if there is no address, whether the name does not exist, its server failed, or nobody answered. The
// standard library's resolver does not report any of that.
package resolver

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// DefaultTimeout is how long one exchange with one server may take.
	DefaultTimeout = 3 * time.Second
	// DefaultAttempts is how often each server is asked.
	DefaultAttempts = 2
	// maxChain bounds the CNAMEs that are followed, whoever sends them.
	maxChain = 10
	// udpSize is the size of answers over UDP that queries announce: it passes every path unfragmented (DNS flag day 2020).
	udpSize = 1232
)

// Resolver asks recursive DNS servers. It never appends search domains, because the names that clients receive over IMAP are fully
// qualified. The zero Resolver has no servers. It is safe for concurrent use while nobody changes it.
type Resolver struct {
	// Servers are asked in order: the next one if one fails or does not answer (RFC 1034 section 5.3.3).
	Servers []netip.AddrPort
	// Hosts is consulted first, by name in lower case without a trailing dot. Addresses from it have no TTL.
	Hosts    map[string][]netip.Addr
	Timeout  time.Duration // zero is DefaultTimeout
	Attempts int           // zero is DefaultAttempts
}

// Source is where an answer comes from.
type Source string

// Sources.
const (
	FromLiteral Source = "literal" // the name was an address
	FromHosts   Source = "hosts"   // Resolver.Hosts
	FromDNS     Source = "dns"
)

// Answer is what was found for one name.
type Answer struct {
	Name   string
	Source Source
	IPv4   Family
	IPv6   Family
}

// Family is the answer for the addresses of one family.
type Family struct {
	Chain     []CNAME
	Addresses []Address
	// Err is of type *Error when there is no address.
	Err    error
	Server netip.AddrPort // who answered last
	// Duration is the time until the answer, over all exchanges.
	Duration time.Duration
}

// CNAME is one alias (RFC 1034 section 3.6.2).
type CNAME struct {
	From, To string // without the dot at the end
	TTL      time.Duration
}

// Address is an address with the time for which it may be kept.
type Address struct {
	Addr netip.Addr
	TTL  time.Duration
}

// Addrs returns the addresses of both families, IPv4 first.
func (a Answer) Addrs() []netip.Addr {
	var addrs []netip.Addr
	for _, family := range []Family{a.IPv4, a.IPv6} {
		for _, address := range family.Addresses {
			addrs = append(addrs, address.Addr)
		}
	}
	return addrs
}

// Err returns nil if there is an address, else why there is none: an error of the name or its servers takes precedence over the
// absence of one family.
func (a Answer) Err() error {
	switch {
	case len(a.IPv4.Addresses)+len(a.IPv6.Addresses) > 0:
		return nil
	case errors.Is(a.IPv4.Err, ErrNoData):
		return a.IPv6.Err
	default:
		return a.IPv4.Err
	}
}

// Lookup asks for the addresses of both families in parallel. The answer has the result of each family, even if the error, which is
// Answer.Err, is not nil.
func (r *Resolver) Lookup(ctx context.Context, host string) (Answer, error) {
	answer := Answer{Name: host}
	if addr, err := netip.ParseAddr(host); err == nil {
		answer.Source = FromLiteral
		answer.take([]netip.Addr{addr})
		return answer, nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if addrs := r.local(name); len(addrs) > 0 {
		answer.Source = FromHosts
		answer.take(addrs)
		return answer, nil
	}
	answer.Source = FromDNS
	if _, ok := dns.IsDomainName(name); !ok || name == "" || strings.ContainsAny(name, "[]: \t\r\n\\\"") {
		err := &Error{Name: host, Err: ErrName}
		answer.IPv4.Err, answer.IPv6.Err = err, err
		return answer, err
	}
	var lookups sync.WaitGroup
	lookups.Go(func() { answer.IPv4 = r.follow(ctx, name, dns.TypeA) })
	lookups.Go(func() { answer.IPv6 = r.follow(ctx, name, dns.TypeAAAA) })
	lookups.Wait()
	return answer, answer.Err()
}

// local returns what is known without a server. The name localhost needs none (RFC 6761 section 6.3).
func (r *Resolver) local(name string) []netip.Addr {
	if addrs := r.Hosts[name]; len(addrs) > 0 {
		return addrs
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return nil
}

// take sorts addresses that did not come from a server by family.
func (a *Answer) take(addrs []netip.Addr) {
	for _, addr := range addrs {
		family := &a.IPv6
		if addr = addr.Unmap(); addr.Is4() {
			family = &a.IPv4
		}
		family.Addresses = append(family.Addresses, Address{Addr: addr})
	}
	for _, family := range []*Family{&a.IPv4, &a.IPv6} {
		if len(family.Addresses) == 0 {
			family.Err = &Error{Name: a.Name, Err: ErrNoData}
		}
	}
}

// LookupNetIP returns the addresses of host, IPv4 first. network is "ip", "ip4" or "ip6". With it, a Resolver can be used in place
// of a *net.Resolver.
func (r *Resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	answer, err := r.Lookup(ctx, host)
	addrs := slices.DeleteFunc(answer.Addrs(), func(addr netip.Addr) bool {
		return network == "ip4" && !addr.Is4() || network == "ip6" && addr.Is4()
	})
	switch {
	case len(addrs) > 0:
		return addrs, nil
	case network == "ip4":
		return nil, answer.IPv4.Err
	case network == "ip6":
		return nil, answer.IPv6.Err
	}
	return nil, err
}

// follow asks for the addresses of one type, and asks again if an answer ends in a CNAME, as that of an authoritative server does
// for a name in another zone.
func (r *Resolver) follow(ctx context.Context, name string, qtype uint16) Family {
	start := time.Now()
	var f Family
	for f.Err == nil && len(f.Addresses) == 0 {
		if len(f.Chain) > maxChain || loops(f.Chain) {
			f.Err = &Error{Name: name, Type: qtype, Server: f.Server, Err: ErrLoop}
			break
		}
		at := name
		if len(f.Chain) > 0 {
			at = f.Chain[len(f.Chain)-1].To
		}
		var response *dns.Msg
		if response, f.Server, f.Err = r.ask(ctx, at, qtype); f.Err != nil {
			break
		}
		before := len(f.Chain)
		f.Chain, f.Addresses = collect(f.Chain, response.Answer, at, qtype)
		if len(f.Addresses) == 0 && len(f.Chain) == before {
			f.Err = &Error{Name: at, Type: qtype, Server: f.Server, Err: ErrNoData}
		}
	}
	f.Duration = time.Since(start)
	return f
}

func loops(chain []CNAME) bool {
	seen := make(map[string]bool, len(chain))
	for _, c := range chain {
		if seen[c.From] || c.From == c.To {
			return true
		}
		seen[c.From] = true
	}
	return false
}

// collect follows the records of an answer, in any order, from the name at, and returns chain with the CNAMEs that it passed
// appended, and the addresses at the end.
func collect(chain []CNAME, records []dns.RR, at string, qtype uint16) ([]CNAME, []Address) {
	for range maxChain + 1 {
		var addresses []Address
		var next *dns.CNAME
		for _, record := range records {
			header := record.Header()
			if canonical(header.Name) != at {
				continue
			}
			ttl := time.Duration(header.Ttl) * time.Second
			switch record := record.(type) {
			case *dns.CNAME:
				next = record
			case *dns.A:
				if addr, ok := netip.AddrFromSlice(record.A.To4()); ok && qtype == dns.TypeA {
					addresses = append(addresses, Address{addr, ttl})
				}
			case *dns.AAAA:
				if addr, ok := netip.AddrFromSlice(record.AAAA); ok && qtype == dns.TypeAAAA {
					addresses = append(addresses, Address{addr.Unmap(), ttl})
				}
			}
		}
		if len(addresses) > 0 || next == nil {
			return chain, addresses
		}
		to := canonical(next.Target)
		chain = append(chain, CNAME{From: at, To: to, TTL: time.Duration(next.Hdr.Ttl) * time.Second})
		at = to
	}
	return chain, nil
}

func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
